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
from feelvos_tf.data import tfrecords

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
        self._known: set[object] = set()
        self._end = ""
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
            error = self._count(sentence, sentence)
        if error:
            raise InputError(error)

    def _note(self, paths: np.ndarray, offsets: np.ndarray) -> bytes:
        """Reports the corrupt record; returns the error that stops training, empty if none."""
        records = list(zip(paths.tolist(), offsets.tolist()))
        with self._lock:
            if not self._end and self._known.isdisjoint(records):
                error = self._count(*_first_corrupt(records))
                self._end = f"{ERROR_MARK}{error}" if error else ""
            # All clips in progress must fail: any of them may be the one consumed first.
            return self._end.encode()

    def _count(self, record: object, sentence: str) -> str | None:
        """Reports another corrupt record; returns the error instead if it is one too many."""
        self._known.add(record)
        if len(self._known) <= self._limit:
            count = f"({len(self._known)} corrupt of at most {self._limit})"
            print(f"skipped: {sentence} {count}", file=sys.stderr, flush=True)
            return None
        setting = "training_dataset.max_corrupt_records"
        if self._limit:
            return f"{sentence}; more than {setting} = {self._limit} are corrupt"
        return f"{sentence}; {setting} = 1 or more would skip it"


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
    for number, offset in enumerate(tfrecords.record_offsets(path), start=1):
        _check_record(str(path), number, offset)


def _first_corrupt(records: list[tuple[bytes, int]]) -> tuple[tuple[bytes, int], str]:
    """Returns the first corrupt record, and a message on what is corrupt."""
    for path, offset in records:
        offsets = tfrecords.record_offsets(Path(path.decode()), lambda _: None)
        try:
            _check_record(path.decode(), offsets.index(offset) + 1, offset)
        except InputError as error:
            return (path, offset), str(error)
    path, offset = records[0]
    return records[0], (
        f"{path.decode()}: the record at byte {offset} yields no clip, although all its frames can "
        "be read"
    )


def _check_record(path: str, number: int, offset: int) -> None:
    """Raises InputError if a record or one of its frames cannot be used; the first is named."""
    try:
        start = tf.constant(offset, tf.int64)
        video = tfrecords.parse(tfrecords.read_record(tf.constant(path), start))
    except tf.errors.OpError as error:
        raise InputError(f"{path}: record {number} is corrupt ({first_line(error)})") from error
    name = f"video {video.video_id.numpy().decode()!r} (record {number})"
    if len(video.images) != len(video.masks):
        raise InputError(
            f"{path}: {name} has {len(video.images)} images but {len(video.masks)} masks"
        )
    for frame, (image, mask) in enumerate(zip(video.images, video.masks)):
        try:
            tfrecords.decode_frame(image, mask)
        except tf.errors.OpError as error:
            reason = first_line(error)
            raise InputError(
                f"{path}: frame {frame} of {name} cannot be read ({reason})"
            ) from error
