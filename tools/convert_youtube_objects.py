r"""Converts YouTube-Objects, as published, to the layout that --dataset=youtube_objects reads.

    python tools/convert_youtube_objects.py --frames=youtube-objects --masks=youtube_masks \
        --output_dir=YTO

    FRAMES/<class>/data/<video>/shots/<shot>/frame0001.jpg ...      Prest et al., CVPR 2012
    MASKS/<class>/data/<video>/shots/<shot>/labels/00001.jpg ...    Jain and Grauman, ECCV 2014

<https://data.vision.ee.ethz.ch/cvl/youtube-objects/> has the frames (those of a shot may also be in
`images/` next to its `labels/`), <https://vision.cs.utexas.edu/projects/videoseg/> the masks: one
object, about every tenth frame, as JPEG. The output folder gets
`JPEGImages/<class>-<video>-<shot>/00001.jpg`, `Annotations/...png` (0 and 255) and
`ImageSets/val.txt`.

A sequence runs from the first to the last annotated frame of a shot. Frames are resized to the
size of the masks, which may be half of theirs. Shots with fewer than two annotated frames have
nothing to score; they are listed and skipped.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from feelvos_tf.core import atomic_files, cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import masks, pictures

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_FRAMES = _DEFINE.string("frames", "Folder of the frames; by default, that of the masks.")
_MASKS = _DEFINE.string("masks", "Folder of the masks.", required=True)
_OUTPUT_DIR = _DEFINE.string("output_dir", "Folder to write; it must not exist yet.", required=True)
_LABELS = "*/data/*/shots/*/labels"
# JPEG blurs the outlines of masks of 0 and 255.
_THRESHOLD = 127
_QUALITY = 95


def main() -> None:
    """Converts the data set; the output folder appears when it is complete."""
    source, output = pathlib.Path(_MASKS.value), pathlib.Path(_OUTPUT_DIR.value)
    shots = sorted(source.glob(_LABELS))
    if not shots:
        raise InputError(f"{source}: expected folders {_LABELS}, found none")
    with atomic_files.new_folder(output) as folder:
        names = list(_convert_all(shots, source, folder))
        (folder / "ImageSets").mkdir()
        (folder / "ImageSets/val.txt").write_text("".join(f"{name}\n" for name in names))
    print(f"{cli.count(len(names), 'sequences')} in {output}")


def _convert_all(
    shots: list[pathlib.Path], source: pathlib.Path, folder: pathlib.Path
) -> Iterator[str]:
    """Converts the shots and yields the names of those that can be scored."""
    for labels in tqdm(shots, unit="shot"):
        shot = labels.parent.relative_to(source)
        kind, _, video, _, number = shot.parts
        name = f"{kind}-{video}-{number}"
        by_number = _numbered(labels)
        if len(by_number) < 2:
            tqdm.write(f"skipped: {name}, with {cli.count(len(by_number), 'annotated frames')}")
            continue
        own = pathlib.Path(_FRAMES.value or source) / shot
        frames = _numbered(own) or _numbered(labels.parent / "images")
        _convert(frames, by_number, own, folder, name)
        yield name


def _numbered(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """Returns number -> picture, for pictures called `frame0012.jpg` or `00012.jpg`."""
    found = {}
    for path in sorted(folder.glob("*")):
        digits = path.stem[len(path.stem.rstrip("0123456789")) :]
        if path.suffix.lower() in pictures.IMAGE_SUFFIXES and digits:
            found[int(digits)] = path
    return found


def _convert(
    frames: dict[int, pathlib.Path],
    labels: dict[int, pathlib.Path],
    place: pathlib.Path,
    folder: pathlib.Path,
    name: str,
) -> None:
    """Writes one sequence below `folder`, given number -> picture and number -> mask."""
    size = None
    for number in range(min(labels), max(labels) + 1):
        if number not in frames:
            raise InputError(f"{place}: expected frame {number} of {name}, found none")
        if number in labels:
            mask = pictures.read_image(labels[number])[..., 0] > _THRESHOLD
            size = size or mask.shape
            pictures.check_same_size(labels[number], mask.shape, size, "earlier masks")
            path = folder / "Annotations" / name / f"{number:05d}.png"
            masks.write_mask(path, mask.astype(np.uint8) * 255)
        _write_frame(frames[number], folder / "JPEGImages" / name / f"{number:05d}.jpg", size)


def _write_frame(source: pathlib.Path, target: pathlib.Path, size: tuple[int, int]) -> None:
    """Writes a frame of [height, width] `size`: a copy if it is a JPEG of that size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    image = pictures.read_image(source)
    if image.shape[:2] == size and source.suffix.lower() in (".jpg", ".jpeg"):
        shutil.copyfile(source, target)
        return
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    Image.fromarray(image).save(target, quality=_QUALITY)


if __name__ == "__main__":
    cli.run(main)
