"""Finds the videos in the record files of a data set, and names the file that is damaged."""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import tfrecords, training_clip
from feelvos_tf.data.tfds import prepared

ERROR_MARK = "training data: "
"""Begins the sentences with which the pipeline itself fails, inside TensorFlow's own messages."""


def as_list(patterns: str | Sequence[str]) -> list[str]:
    """Returns a list of patterns, one per data set."""
    return [patterns] if isinstance(patterns, str) else list(patterns)


class VideoRecords(NamedTuple):
    """Where the videos of a data set lie, in the order of the files.

    Attributes:
      paths: the file of each video.
      offsets: the byte of the file at which its record begins.
    """

    paths: list[str]
    offsets: list[int]


def find_videos(pattern: str, note_damage: Callable[[str], None] | None = None) -> VideoRecords:
    """Returns all videos in the record files that match the pattern.

    Args:
      pattern: of the files' paths, or a data set of TensorFlow Datasets: see `tfds/prepared.py`.
      note_damage: told of a file that ends inside a record, which then is left out.

    Raises:
      InputError: no file matches, one ends inside a record, or all are empty.
    """
    paths = _paths(pattern)
    if not paths:
        raise InputError(f"no training records match {pattern}")
    videos = VideoRecords([], [])
    for path in paths:
        for offset in tfrecords.record_offsets(Path(path), note_damage):
            videos.paths.append(path)
            videos.offsets.append(offset)
    if not videos.paths:
        raise InputError(f"the training records {pattern} hold no video")
    return videos


def _paths(pattern: str) -> list[str]:
    if prepared.is_prepared(pattern):
        return [str(path) for path in prepared.record_files(pattern)]
    return sorted(glob.glob(pattern))


@contextlib.contextmanager
def readable_errors(patterns: str | Sequence[str] | None = None) -> Iterator[None]:
    """Turns a failure of the input pipeline inside the block into an `InputError`.

    TensorFlow does not say which file a damaged record or image is in. So when reading fails, the
    record files are searched for the damage; a failure that has another cause passes unchanged.

    Args:
      patterns: as `records` of `training_dataset`; those bound to it by gin when None.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        sentence = re.search(rf"\[{ERROR_MARK}(.*)\]\n", str(error))
        if sentence:
            # TensorFlow escapes the quotes of strings that it prints.
            raise InputError(sentence[1].replace("\\'", "'")) from error
        if patterns is None:
            patterns = gin.get_bindings("training_dataset").get("records", [])
        for pattern in as_list(patterns):
            for path in _paths(pattern):
                find_damage(Path(path))
        raise


def describe_damage(path: str, offset: int) -> str | None:
    """Returns a sentence on what is damaged in one record, None where nothing is.

    Args:
      path: of the file.
      offset: byte at which the record begins.
    """
    offsets = tfrecords.record_offsets(Path(path), lambda _: None)
    number = offsets.index(offset) + 1 if offset in offsets else 0
    try:
        serialized = tfrecords.read_record(tf.constant(path), tf.constant(offset, tf.int64))
        _check_record(path, number, serialized)
    except InputError as error:
        return str(error)
    except tf.errors.OpError as error:
        return f"{path}: record {number} is damaged ({_first_line(error)})"
    return None


def _check_record(path: str | Path, number: int, serialized: tf.Tensor) -> None:
    """Raises InputError naming the first frame of a record that cannot be used."""
    video = tfrecords.parse(serialized)
    name = f"video {video.video_id.numpy().decode()!r} (record {number})"
    if len(video.images) != len(video.masks):
        raise InputError(
            f"{path}: {name} has {len(video.images)} images but {len(video.masks)} masks"
        )
    for frame, (image, mask) in enumerate(zip(video.images, video.masks)):
        try:
            training_clip.decode_frame(image, mask)
        except tf.errors.InvalidArgumentError as error:
            reason = _first_line(error)
            raise InputError(
                f"{path}: frame {frame} of {name} cannot be read ({reason})"
            ) from error


def find_damage(path: Path) -> None:
    """Reads and decodes every frame of a record file.

    Raises:
      InputError: names the first record or frame that cannot be read.
    """
    tfrecords.record_offsets(path)
    number = 0
    try:
        for serialized in tf.data.TFRecordDataset(str(path)):
            number += 1
            _check_record(path, number, serialized)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise InputError(
            f"{path}: record {number or 1} is damaged ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    """Returns the first line of TensorFlow's message, without the name of the node."""
    return re.sub(r"\{\{.*?\}\}\s*", "", str(error).splitlines()[0]).split(" [Op:")[0]
