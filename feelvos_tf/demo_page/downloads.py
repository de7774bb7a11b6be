"""The masks of a clip in the forms that other programs read."""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Mapping
from fractions import Fraction

from feelvos_tf.demo_page.clip_files import ClipFiles
from feelvos_tf.media import object_files, overlay, video_writing
from feelvos_tf.media.masks import DAVIS_PALETTE
from feelvos_tf.media.result_files import Result, VideoFacts

Objects = Mapping[int, Mapping[str, str]]


def write_pngs(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes a .zip of indexed PNGs, one per frame, and `objects.json`, what the ids are called."""
    with zipfile.ZipFile(path, "w") as archive:
        for position in clip.masked():
            mask = clip.mask_path(position)
            archive.write(mask, mask.name)
        archive.writestr("objects.json", json.dumps(objects, indent=1))


def write_overlay(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes an .mp4 of the clip with its objects tinted in their colors."""
    palette = DAVIS_PALETTE.copy()
    for object_id, described in objects.items():
        palette[object_id] = list(bytes.fromhex(described["color"][1:]))
    with video_writing.writing_video(path, clip.frames_per_second) as write:
        for position in range(clip.count):
            write(overlay.overlay(clip.image(position), clip.mask(position), palette=palette))


def write_rle(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes COCO's JSON of run lengths, with boxes and areas."""
    facts = VideoFacts(clip.frames_per_second, clip.count, sorted(objects))
    rate = Fraction(clip.frames_per_second).limit_denominator(1001)
    with object_files.RunLengths(path).writing(facts) as write:
        for position in clip.masked():
            name = clip.mask_path(position).stem
            write(Result(name, position / rate, clip.image(position), clip.mask(position)))
