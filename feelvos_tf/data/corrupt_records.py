"""Records that cannot be read: named, counted and, up to a limit, skipped."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import record_offsets, tfrecords

ERROR_MARK = "training data: "
"""Marks the sentences with which the pipeline itself fails, inside TensorFlow's own messages."""


class CorruptRecordLog:
    """Names each corrupt record once; one more than the limit ends the training.

    Corrupt is a record whose checksum is wrong, with a frame or mask that cannot be decoded, or
    with a mask of another size than its image. Only the frames that a clip needs are looked at.
    """

    def __init__(self, limit: int):
        """Allows `limit` corrupt records; 0 allows none."""
        self._limit = limit
        self._known: dict[tuple[bytes, int], str] = {}
        self._end: str | None = None
        self._lock = threading.Lock()

    def report(self, is_corrupt: tf.Tensor, paths: tf.Tensor, offsets: tf.Tensor) -> tf.Operation:
        """Returns an operation that names the corrupt one of some records, and fails at too many.

        Args:
          is_corrupt: bool [], whether one of them is.
          paths: files of the records, string [n].
          offsets: bytes at which they begin, int64 [n].
        """

        def find() -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(self._note, [paths, offsets], tf.string), [])

        verdict = tf.cond(is_corrupt, find, lambda: tf.constant(""))
        return tf.debugging.Assert(verdict == "", [verdict])

    def note_end(self, sentence: str) -> None:
        """Counts a file that ends inside a record.

        Raises:
          InputError: no more corrupt records are allowed.
        """
        with self._lock:
            self._known[sentence.encode(), 0] = sentence
        if len(self._known) > self._limit:
            raise InputError(sentence + self._advice())
        self._print(sentence)

    def _note(self, paths: np.ndarray, offsets: np.ndarray) -> bytes:
        """Names the corrupt record; returns the sentence that ends the training, or nothing."""
        records = list(zip(paths.tolist(), offsets.tolist()))
        with self._lock:
            if self._end is None and not any(record in self._known for record in records):
                record, sentence = _first_corrupt(records)
                self._known[record] = sentence
                if len(self._known) > self._limit:
                    self._end = f"{ERROR_MARK}{sentence}{self._advice()}"
                else:
                    self._print(sentence)
            # All clips in progress fail, too: any of them may be the one that is looked at first.
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
    """Turns a failure of the input pipeline inside the block into an `InputError`.

    Failures with another cause pass unchanged.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        sentence = re.search(rf"\[{ERROR_MARK}(.*)\]\n", str(error))
        if not sentence:
            raise
        # TensorFlow escapes the quotes of strings that it prints.
        raise InputError(sentence[1].replace("\\'", "'")) from error


def check_file(path: Path) -> None:
    """Reads and decodes every frame of a record file.

    Raises:
      InputError: names the first record or frame that cannot be read.
    """
    for number, offset in enumerate(record_offsets.record_offsets(path), start=1):
        sentence = _describe(str(path), number, offset)
        if sentence:
            raise InputError(sentence)


def _describe(path: str, number: int, offset: int) -> str | None:
    """Returns a sentence on what is corrupt in record `number`, None where nothing is."""
    try:
        start = tf.constant(offset, tf.int64)
        _check_record(path, number, tfrecords.read_record(tf.constant(path), start))
    except InputError as error:
        return str(error)
    except tf.errors.OpError as error:
        return f"{path}: record {number} is corrupt ({_first_line(error)})"
    return None


def _first_corrupt(records: list[tuple[bytes, int]]) -> tuple[tuple[bytes, int], str]:
    """Returns which of the records is corrupt, and a sentence that says how."""
    for path, offset in records:
        offsets = record_offsets.record_offsets(Path(path.decode()), lambda _: None)
        sentence = _describe(path.decode(), offsets.index(offset) + 1, offset)
        if sentence:
            return (path, offset), sentence
    path, offset = records[0]
    return records[0], (
        f"{path.decode()}: the record at byte {offset} gives no clip, though every frame of it can "
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
            reason = _first_line(error)
            raise InputError(
                f"{path}: frame {frame} of {name} cannot be read ({reason})"
            ) from error


def _first_line(error: Exception) -> str:
    """Returns the first line of TensorFlow's message, without the name of the node."""
    return re.sub(r"\{\{.*?\}\}\s*", "", str(error).splitlines()[0]).split(" [Op:")[0]
