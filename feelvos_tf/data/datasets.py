"""Folders of frames and masks on disk -> lists of `VideoFiles`: paths only, no pixels.

The layouts understood here (`<stem>` is the same for a frame and its mask):

    davis_2016, davis_2017            youtube_vos                    youtube_objects
    ROOT/                             ROOT/<split>/                  ROOT/
      JPEGImages/480p/<seq>/*.jpg       JPEGImages/<seq>/*.jpg         JPEGImages/<seq>/*.jpg
      Annotations/480p/<seq>/*.png      Annotations/<seq>/*.png        Annotations/<seq>/*.png
      ImageSets/2017/<split>.txt        meta.json                      ImageSets/*.txt (or none)

DAVIS 2016 as first published keeps its lists in `ImageSets/480p/`, with a pair of paths per line
instead of a name; both are read. YouTube-VOS ships masks only for the frames in which an object
first appears (`valid`), YouTube-Objects about every tenth frame: `VideoFiles.masks` holds None for
the others. YouTube-Objects has no published layout of this kind; convert it to the one above.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from feelvos_tf.core.errors import InputError

DATASETS = ("davis_2016", "davis_2017", "youtube_vos", "youtube_objects")
MASK_REQUIREMENTS = ("all", "first", "none")
_BINARY = ("davis_2016", "youtube_objects")


@dataclass(frozen=True)
class VideoFiles:
    """One video on disk.

    Attributes:
      name: the folder's name.
      frames: the images in order.
      masks: as long as `frames`; None where a frame has no ground truth.
      binary_masks: the masks hold 0 and 255, and 255 is the one object (not void).
      object_frames: YouTube-VOS only: object id -> the positions in `frames` at which `meta.json`
        lists it, ascending. The first is where its mask is given; the later ones are scored.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    binary_masks: bool = False
    object_frames: dict[int, tuple[int, ...]] = field(default_factory=dict, hash=False)


def list_sequences(
    root: str | Path,
    dataset: str = "davis_2017",
    split: str = "val",
    resolution: str = "480p",
    sequences: Iterable[str] | None = None,
    require_masks: str = "all",
) -> list[VideoFiles]:
    """Returns the sequences of a split, in the order of its list.

    Args:
      root: the data set's folder.
      dataset: one of `DATASETS`.
      split: name of the list or, for YouTube-VOS, of the folder (`val` also finds `valid`).
      resolution: the folder below `JPEGImages` and `Annotations`; DAVIS only.
      sequences: names to keep; all when None.
      require_masks: `all`: every frame needs a mask; `first`: the first one does; `none`.

    Raises:
      InputError: a folder, list, sequence, frame or required mask is missing.
    """
    if dataset not in DATASETS:
        raise InputError(f"unknown data set {dataset!r}: expected one of {', '.join(DATASETS)}")
    if require_masks not in MASK_REQUIREMENTS:
        raise InputError(
            f"unknown mask requirement {require_masks!r}: expected one of "
            f"{', '.join(MASK_REQUIREMENTS)}"
        )
    root = _folder(Path(root), "data root")
    base, subfolder = _base_and_subfolder(root, dataset, split, resolution)
    images = _folder(base / "JPEGImages" / subfolder, f"image folder of {dataset}")
    names = _split_names(root, images, dataset, split, resolution)
    if sequences is not None:
        names = _selected(names, list(sequences), split)
    annotations = base / "Annotations" / subfolder
    appearances = _read_meta(base / "meta.json") if dataset == "youtube_vos" else {}
    return [
        _sequence(name, images, annotations, dataset, require_masks, appearances.get(name, {}))
        for name in names
    ]


def _base_and_subfolder(root: Path, dataset: str, split: str, resolution: str) -> tuple[Path, str]:
    """Returns the folder that holds JPEGImages and the path from there to the sequences."""
    if dataset == "youtube_objects":
        return root, ""
    if dataset != "youtube_vos":
        return root, resolution
    if split == "val" and not (root / split).is_dir():
        split = "valid"
    return _folder(root / split, f"folder of the split {split!r}"), ""


def _split_names(root: Path, images: Path, dataset: str, split: str, resolution: str) -> list[str]:
    """Returns the names of the split's sequences, which all have a folder below `images`."""
    path = _split_file(root, dataset, split, resolution)
    if path is None:
        names = sorted(entry.name for entry in images.iterdir() if entry.is_dir())
        source = images
    else:
        lines = path.read_text().splitlines()
        names = list(dict.fromkeys(_name_in_line(line) for line in lines if line.strip()))
        source = path
    if not names:
        raise InputError(f"{source} names no sequence")
    for name in names:
        if not (images / name).is_dir():
            raise InputError(
                f"{source} names the sequence {name!r}, but {images / name} is missing"
            )
    return names


def _split_file(root: Path, dataset: str, split: str, resolution: str) -> Path | None:
    """Returns the file that lists the split, or None where the folders themselves are the list."""
    sets = root / "ImageSets"
    if dataset == "youtube_vos":
        return None
    if dataset == "youtube_objects":
        path = sets / f"{split}.txt"
        return path if path.is_file() else None
    candidates = [sets / dataset.removeprefix("davis_") / f"{split}.txt"]
    if dataset == "davis_2016":
        candidates.append(sets / resolution / f"{split}.txt")
    for path in candidates:
        if path.is_file():
            return path
    there = sorted(path.stem for path in candidates[0].parent.glob("*.txt"))
    raise InputError(
        f"split file {candidates[0]} does not exist (splits found beside it: "
        f"{', '.join(there) or 'none'})"
    )


def _name_in_line(line: str) -> str:
    """Returns `bear` for `bear` and for `/JPEGImages/480p/bear/00000.jpg /Annotations/...`."""
    first = line.split()[0]
    return first.split("/")[-2] if "/" in first else first


def _selected(names: list[str], wanted: list[str], split: str) -> list[str]:
    """Returns the names that are wanted, in the split's order."""
    for name in wanted:
        if name not in names:
            raise InputError(f"sequence {name!r} is not in the split {split!r}: {', '.join(names)}")
    return [name for name in names if name in wanted]


def _sequence(
    name: str,
    images: Path,
    annotations: Path,
    dataset: str,
    require_masks: str,
    appearances: dict[int, list[str]],
) -> VideoFiles:
    """Returns one sequence after checking that its masks are there as required."""
    frames = _files(images / name, (".jpg", ".jpeg"))
    if not frames:
        raise InputError(f"{images / name} holds no .jpg frame")
    by_stem = {path.stem: path for path in _files(annotations / name, (".png",))}
    if dataset == "youtube_objects" and by_stem:
        # Nothing can be segmented before the first mask, and frame 0 does not always have one.
        frames = [frame for frame in frames if frame.stem >= min(by_stem)]
    masks = tuple(by_stem.get(frame.stem) for frame in frames)
    _check_masks(name, frames, by_stem, require_masks, images / name, annotations / name)
    return VideoFiles(
        name=name,
        frames=tuple(frames),
        masks=masks,
        binary_masks=dataset in _BINARY,
        object_frames=_positions(appearances, frames, name),
    )


def _check_masks(
    name: str,
    frames: list[Path],
    by_stem: dict[str, Path],
    require_masks: str,
    image_folder: Path,
    mask_folder: Path,
) -> None:
    stems = [frame.stem for frame in frames]
    missing = [stem for stem in stems if stem not in by_stem]
    surplus = sorted(set(by_stem) - set(stems))
    counts = f"{len(stems)} images in {image_folder}, {len(by_stem)} masks in {mask_folder}"
    if surplus:
        raise InputError(f"{name}: mask {surplus[0]}.png has no image ({counts})")
    if missing and require_masks == "all":
        raise InputError(f"{name}: frame {missing[0]} has no mask ({counts})")
    if stems[0] in missing and require_masks == "first":
        raise InputError(f"{name}: the first frame needs a mask, {mask_folder / stems[0]}.png")


def _read_meta(path: Path) -> dict[str, dict[int, list[str]]]:
    """Returns sequence -> object id -> stems of its frames; empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        videos = json.loads(path.read_text())["videos"]
        return {
            name: {int(key): list(entry["frames"]) for key, entry in video["objects"].items()}
            for name, video in videos.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a YouTube-VOS meta file (expected videos > NAME > objects > ID > "
            f"frames): {error!r}"
        ) from error


def _positions(
    appearances: dict[int, list[str]], frames: list[Path], name: str
) -> dict[int, tuple[int, ...]]:
    """Returns object id -> ascending positions in `frames`."""
    position = {frame.stem: index for index, frame in enumerate(frames)}
    for object_id, stems in appearances.items():
        for stem in stems:
            if stem not in position:
                raise InputError(
                    f"{name}: meta.json lists object {object_id} in frame {stem}, without image "
                    f"in {frames[0].parent}"
                )
    return {
        object_id: tuple(sorted(position[stem] for stem in stems))
        for object_id, stems in sorted(appearances.items())
    }


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Returns the files with one of the suffixes, sorted by name; none when there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _folder(path: Path, what: str) -> Path:
    if not path.is_dir():
        raise InputError(f"{what} {path} does not exist or is no folder")
    return path
