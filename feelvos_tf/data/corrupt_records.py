"""Names, counts and, up to a limit, leaves out records that cannot be read."""

from __future__ import annotations

import sys
import threading

import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import tfrecord_files


class CorruptRecordLog:
    """What becomes of damaged records: each is named once, more than the limit end the training.

    Damaged is a record whose checksum is wrong, with a frame or mask that cannot be decoded, or
    with a mask of another size than its image. Only what is read is found: three frames of a
    video's many, each time.
    """

    def __init__(self, limit: int):
        """Allows as many damaged records as `limit`; 0 allows none."""
        self._limit = limit
        self._known: dict[tuple[bytes, int], str] = {}
        self._end: str | None = None
        self._lock = threading.Lock()

    def report(self, is_damaged: tf.Tensor, paths: tf.Tensor, offsets: tf.Tensor) -> tf.Operation:
        """Returns an operation that says which of some records is damaged, and fails at too many.

        Args:
          is_damaged: bool [], whether one of them is.
          paths: files of the records, string [n].
          offsets: bytes at which they begin, int64 [n].
        """

        def find() -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(self._note, [paths, offsets], tf.string), [])

        verdict = tf.cond(is_damaged, find, lambda: tf.constant(""))
        return tf.debugging.Assert(verdict == "", [verdict])

    def note_end(self, sentence: str) -> None:
        """Counts a file that ends inside a record.

        Raises:
          InputError: no more damage is allowed.
        """
        with self._lock:
            self._known[sentence.encode(), 0] = sentence
        if len(self._known) > self._limit:
            raise InputError(sentence + self._advice())
        self._print(sentence)

    def _note(self, paths: np.ndarray, offsets: np.ndarray) -> bytes:
        """Names the damaged record; returns the sentence that ends the training, or nothing."""
        records = list(zip(paths.tolist(), offsets.tolist()))
        with self._lock:
            if self._end is None and not any(record in self._known for record in records):
                record, sentence = _first_damage(records)
                self._known[record] = sentence
                if len(self._known) > self._limit:
                    self._end = f"{tfrecord_files.ERROR_MARK}{sentence}{self._advice()}"
                else:
                    self._print(sentence)
            # All clips that are under way end, too: nobody knows which one is looked at first.
            return (self._end or "").encode()

    def _print(self, sentence: str) -> None:
        counted = f"({len(self._known)} damaged of at most {self._limit})"
        print(f"left out: {sentence} {counted}", file=sys.stderr, flush=True)

    def _advice(self) -> str:
        if self._limit:
            return f"; more than training_dataset.max_corrupt_records = {self._limit} are damaged"
        return "; training_dataset.max_corrupt_records = 1 or more would leave it out"


def _first_damage(records: list[tuple[bytes, int]]) -> tuple[tuple[bytes, int], str]:
    """Returns which of the records is damaged, and a sentence that names what is."""
    for path, offset in records:
        sentence = tfrecord_files.describe_damage(path.decode(), offset)
        if sentence:
            return (path, offset), sentence
    path, offset = records[0]
    return records[0], (
        f"{path.decode()}: the record at byte {offset} gives no clip, though every frame of it can "
        "be read"
    )
