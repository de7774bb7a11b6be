"""Draws clips of several objects that cross each other, as a data set in the layout of DAVIS 2017.

    python tools/pasted_clips.py --dataset_root=DAVIS2016 --year=2016 --split=train \\
        --sequences=breakdance-flare,dog-agility,drift-turn,horsejump-low --output_dir=PASTED
    python -m feelvos_tf.predict --dataset_root=PASTED --split=val --output_dir=OUT
    python tools/eval_davis.py --dataset_root=PASTED --split=val --predictions=OUT

Two to five objects of the given sequences, each cut from a random frame, move over another frame
whose own object is filled in. They come from all sides and meet in the middle, where later ones are
in front. With more objects than sequences, some are alike. The same seed gives the same clips.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from feelvos_tf.core import atomic_files, cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags, synthetic_motion
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.data.synthetic_motion import View
from feelvos_tf.media import masks, pictures

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_DATASET = dataset_flags.define(
    _FLAGS, "Folder of the data set to take objects from.", split="train"
)
_OUTPUT_DIR = _DEFINE.string("output_dir", "Folder to write; it must not exist yet.", required=True)
_CLIPS = _DEFINE.integer("clips", "Number of clips.", 20, lower_bound=1)
_FRAMES = _DEFINE.integer("frames", "Frames per clip.", 20, lower_bound=2)
_SEED = _DEFINE.integer("seed", "Random seed.", 0, lower_bound=0)

_OBJECTS = (2, 5)
# Smallest object worth cutting out.
_LEAST_PIXELS = 100
# Extent of an object, and its initial distance from the middle, as shares of the frame's height.
_EXTENTS, _DISTANCES = (0.2, 0.4), (0.35, 0.6)


def main() -> None:
    """Writes the data set; its folder appears when it is complete."""
    videos = _DATASET.choice().list_sequences()
    with atomic_files.new_folder(_OUTPUT_DIR.value) as folder:
        _write(folder, videos)
    print(f"written: {_OUTPUT_DIR.value}")


def _write(folder: pathlib.Path, videos: Sequence[VideoFiles]) -> None:
    names = [f"clip-{number:02d}" for number in range(_CLIPS.value)]
    for number, name in enumerate(tqdm(names, unit="clip")):
        rng = np.random.default_rng([_SEED.value, number])
        for position, (image, ids) in enumerate(pasted_clip(videos, _FRAMES.value, rng)):
            stem = f"480p/{name}/{position:05d}"
            pictures.write_image(folder / f"JPEGImages/{stem}.jpg", image)
            masks.write_mask(folder / f"Annotations/{stem}.png", ids)
    split = folder / "ImageSets/2017/val.txt"
    split.parent.mkdir(parents=True)
    split.write_text("".join(f"{name}\n" for name in names))


def pasted_clip(
    videos: Sequence[VideoFiles], frames: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns images, uint8 [height, width, 3], with their object ids, uint8 [height, width].

    Args:
      videos: provide objects and background.
      frames: of the clip.
      rng: the only source of randomness.
    """
    image, ids = _frame_of(videos[int(rng.integers(len(videos)))], rng)
    height, width = size = ids.shape
    ground = synthetic_motion.fill(image, ids > 0)
    middle = np.array([width, height]) / 2
    seen = View(anchor=tuple(middle), position=middle, scale=1.1)
    views = synthetic_motion.path(seen, rng, frames + 1, strength=0.1)[1:]
    nothing = np.zeros(size, np.uint8)
    clip = [synthetic_motion.sample_picture(ground, nothing, view, size, 0) for view in views]
    count = int(rng.integers(_OBJECTS[0], _OBJECTS[1] + 1))
    order = [int(i) for _ in range(count) for i in rng.permutation(len(videos))][:count]
    turns = 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count
    for object_id, (lender, turn) in enumerate(zip(order, turns), 1):
        image, ids = _frame_of(videos[lender], rng)
        cutout = synthetic_motion.cut(image, ids > 0)
        if rng.random() < 0.5:
            cutout = synthetic_motion.mirrored(cutout)
        start = rng.uniform(*_DISTANCES) * height * np.array([np.cos(turn), np.sin(turn)])
        view = View(
            anchor=cutout.center,
            position=middle + start,
            scale=float(rng.uniform(*_EXTENTS) * height / cutout.extent),
        )
        wobble = synthetic_motion.draw_velocity(rng, 0.4)
        wobble = dataclasses.replace(wobble, position=-2 * start / (frames - 1))
        for position in range(frames):
            moved = synthetic_motion.moved(view, wobble, position)
            clip[position] = synthetic_motion.paste(*clip[position], cutout, moved, object_id)
    return clip


def _frame_of(video: VideoFiles, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image and mask (0 and 1) of a random frame that shows an object."""
    for position in rng.permutation(len(video.frames)):
        ids = masks.read_annotation(video.masks[position], video.binary_masks)
        inside = masks.is_object(ids)
        if inside.sum() >= _LEAST_PIXELS:
            return pictures.read_image(video.frames[position]), inside.astype(np.uint8)
    raise InputError(f"sequence {video.name}: expected a frame that shows an object, found none")


if __name__ == "__main__":
    cli.run(main)
