"""Draws the data set in `testdata/`, laid out like DAVIS 2017.

    python tools/testdata/draw_testdata.py

The output is byte-identical with the same versions of NumPy, OpenCV and Pillow:

    testdata/
      JPEGImages/480p/<sequence>/00000.jpg    RGB, 240x160 (the folder's name is that of DAVIS)
      Annotations/480p/<sequence>/00000.png   indexed PNG of object ids, DAVIS palette
      ImageSets/2017/{train,val}.txt          one sequence name per line
"""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from drawing import draw
from scenes import SCENES, Scene
from tqdm import tqdm

from feelvos_tf.core import atomic_files, cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import masks

JPEG_QUALITY = 88

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_OUTPUT_DIR = _DEFINE.string(
    "output_dir",
    "Folder for JPEGImages, Annotations and ImageSets.",
    str(pathlib.Path(__file__).resolve().parents[2] / "testdata"),
)


def draw_frame(scene: Scene, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a frame: RGB uint8 `[height, width, 3]` and object ids uint8 `[height, width]`."""
    time = frame / (scene.frames - 1)
    return draw(scene.background, scene.objects(time), time)


def write_data_set(output_dir: pathlib.Path) -> None:
    """Draws all scenes and writes frames, masks and the two lists to `output_dir`."""
    for scene in tqdm(SCENES, desc="drawing", unit="sequence"):
        frames = output_dir / "JPEGImages/480p" / scene.name
        annotations = output_dir / "Annotations/480p" / scene.name
        for index in range(scene.frames):
            picture, ids = draw_frame(scene, index)
            _write_jpeg(frames / f"{index:05d}.jpg", picture)
            masks.write_mask(annotations / f"{index:05d}.png", ids)
    for split in ("train", "val"):
        names = [scene.name for scene in SCENES if scene.split == split]
        text = "".join(f"{name}\n" for name in names)
        atomic_files.write_text(output_dir / f"ImageSets/2017/{split}.txt", text)


def _write_jpeg(path: pathlib.Path, picture: np.ndarray) -> None:
    """Writes an RGB picture as JPEG."""
    with atomic_files.replacing(path) as temporary:
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        if not cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality):
            raise InputError(f"{path}: the picture could not be written")


def main() -> None:
    """Draws the data set."""
    write_data_set(pathlib.Path(_OUTPUT_DIR.value))


if __name__ == "__main__":
    cli.run(main)
