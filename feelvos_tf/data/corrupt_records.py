"""Reports, counts and, up to a limit, skips records that cannot be read."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError, first_line
from feelvos_tf.data import record_offsets, tfrecords

ERROR_MARK = "training data: "
"""Marks the pipeline's own errors within TensorFlow's messages."""


class CorruptRecordLog:
    """Reports each corrupt record once; more than the limit stops training.

    A record is corrupt if its checksum is wrong, a frame or mask cannot be decoded, or a mask and
    its image differ in size. Only the frames that a clip needs are checked.
    """

    def __init__(self, limit: int):
        """Allows `limit` corrupt records; 0 allows none."""
        self._limit = limit
        self._known: dict[tuple[bytes, int], str] = {}
        self._end: str | None = None
        self._lock = threading.Lock()

    def report(self, is_corrupt: tf.Tensor, paths: tf.Tensor, offsets: tf.Tensor) -> None:
        """Reports the corrupt one of several records when run; fails at too many.

        Args:
          is_corrupt: bool [], whether one of the records is corrupt.
          paths: files of the records, string [n].
          offsets: bytes at which they begin, int64 [n].
        """

        def find() -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(self._note, [paths, offsets], tf.string), [])

        verdict = tf.cond(is_corrupt, find, lambda: tf.constant(""))
        tf.debugging.Assert(verdict == "", [verdict])

    def note_end(self, sentence: str) -> None:
        """Counts a record with a corrupt length, or inside which its file ends.

        Raises:
          InputError: this is one corrupt record too many.
        """
        with self._lock:
            self._known[sentence.encode(), 0] = sentence
        if len(self._known) > self._limit:
            raise InputError(sentence + self._advice())
        self._print(sentence)

    def _note(self, paths: np.ndarray, offsets: np.ndarray) -> bytes:
        """Reports the corrupt record; returns the error that stops training, empty if none."""
        records = list(zip(paths.tolist(), offsets.tolist()))
        with self._lock:
            if self._end is None and not any(record in self._known for record in records):
                record, sentence = _first_corrupt(records)
                self._known[record] = sentence
                if len(self._known) > self._limit:
                    self._end = f"{ERROR_MARK}{sentence}{self._advice()}"
                else:
                    self._print(sentence)
            # All clips in progress must fail: any of them may be the one consumed first.
            return (self._end or "").encode()

    def _print(self, sentence: str) -> None:
        count = f"({len(self._known)} corrupt of at most {self._limit})"
        print(f"skipped: {sentence} {count}", file=sys.stderr, flush=True)

    def _advice(self) -> str:
        if self._limit:
            return f"; more than training_dataset.max_corrupt_records = {self._limit} are corrupt"
        return "; training_dataset.max_corrupt_records = 1 or more would skip it"


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Turns an error of the input pipeline inside the block into an `InputError`.

    Other errors pass unchanged.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        sentence = re.search(rf"\[{ERROR_MARK}(.*)\]\n", str(error))
        if not sentence:
            raise
        # TensorFlow escapes quotes in strings that it prints.
        raise InputError(sentence[1].replace("\\'", "'")) from error


def check_file(path: Path) -> None:
    """Reads and decodes every frame of a record file.

    Raises:
      InputError: a record or frame cannot be read; the first one is named.
    """
    for number, offset in enumerate(record_offsets.record_offsets(path), start=1):
        sentence = _describe(str(path), number, offset)
        if sentence:
            raise InputError(sentence)


def _describe(path: str, number: int, offset: int) -> str | None:
    """Returns a message on what is corrupt in record `number`, None if nothing is."""
    try:
        start = tf.constant(offset, tf.int64)
        _check_record(path, number, tfrecords.read_record(tf.constant(path), start))
    except InputError as error:
        return str(error)
    except tf.errors.OpError as error:
        return f"{path}: record {number} is corrupt ({first_line(error)})"
    return None


def _first_corrupt(records: list[tuple[bytes, int]]) -> tuple[tuple[bytes, int], str]:
    """Returns the first corrupt record, and a message on what is corrupt."""
    for path, offset in records:
        offsets = record_offsets.record_offsets(Path(path.decode()), lambda _: None)
        sentence = _describe(path.decode(), offsets.index(offset) + 1, offset)
        if sentence:
            return (path, offset), sentence
    path, offset = records[0]
    return records[0], (
        f"{path.decode()}: the record at byte {offset} yields no clip, although all its frames can "
        "be read"
    )


def _check_record(path: str, number: int, serialized: tf.Tensor) -> None:
    """Raises InputError naming the first frame of a record that cannot be used."""
    video = tfrecords.parse(serialized)
    name = f"video {video.video_id.numpy().decode()!r} (record {number})"
    if len(video.images) != len(video.masks):
        raise InputError(
            f"{path}: {name} has {len(video.images)} images but {len(video.masks)} masks"
        )
    for frame, (image, mask) in enumerate(zip(video.images, video.masks)):
        try:
            tfrecords.decode_frame(image, mask)
        except tf.errors.InvalidArgumentError as error:
            reason = first_line(error)
            raise InputError(
                f"{path}: frame {frame} of {name} cannot be read ({reason})"
            ) from error
