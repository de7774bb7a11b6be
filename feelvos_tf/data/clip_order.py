"""Tells which video a training clip is made of, by the number of the clip alone.

That is what lets a run go on where it was stopped: the clips of step 1000 are found without reading
those of the steps before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_BLOCK = 10_000
"""Clips over which the shares of the data sets are exact."""


class Turn(NamedTuple):
    """Whose turn it is.

    Attributes:
      data_set: position in the list of data sets, int64 [].
      video: position in the data set's list of videos, int64 [].
      is_first_round: whether no video of the data set had two turns yet, bool [].
    """

    data_set: tf.Tensor
    video: tf.Tensor
    is_first_round: tf.Tensor


class ClipOrder:
    """Rounds through the videos of every data set, each round in an order of its own.

    Within a round every video has one turn. Several data sets are mixed at random by their
    probabilities.
    """

    def __init__(self, num_videos: Sequence[int], probabilities: Sequence[float], seed: int):
        """Stores how many videos each data set has, how often it is drawn from, and the seed."""
        self._num_videos = tf.constant(num_videos, tf.int64)
        ends = np.round(np.cumsum([0.0, *probabilities]) * _BLOCK).astype(np.int64)
        ends[-1] = _BLOCK
        self._first_of_block = tf.constant(ends[:-1], tf.int64)
        self._share = tf.constant(np.diff(ends), tf.int64)
        self._seed = tf.constant(seed, tf.int64)

    def turn(self, clip: tf.Tensor) -> Turn:
        """Returns which video clip number `clip` (int64 [], from 0) is made of."""
        data_set, turn = self._data_set(clip)
        count = self._num_videos[data_set]
        round_number = turn // count
        seed = tf.random.experimental.stateless_fold_in(
            tf.stack([self._seed, round_number]), data_set
        )
        video = tf.random.experimental.index_shuffle(turn % count, seed, count - 1)
        return Turn(data_set, video, round_number == 0)

    def _data_set(self, clip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the data set of a clip, and how many clips of it have a smaller number.

        (The latter is exact for a single data set; among several, turns of one block are shuffled.)
        """
        if len(self._share) == 1:
            return tf.constant(0, tf.int64), clip
        block = clip // _BLOCK
        seed = tf.stack([self._seed, -1 - block])
        place = tf.random.experimental.index_shuffle(clip % _BLOCK, seed, _BLOCK - 1)
        data_set = tf.searchsorted(self._first_of_block, [place], side="right")[0] - 1
        turn = block * self._share[data_set] + place - self._first_of_block[data_set]
        return tf.cast(data_set, tf.int64), turn
