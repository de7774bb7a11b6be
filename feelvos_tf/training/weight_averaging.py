"""An exponential moving average of the weights, scored and exported instead of the last weights.

With a constant learning rate, weights keep moving around a good point. Their average is closer to
it, so training can be stopped at any time without decaying the rate first (Polyak and Juditsky,
SIAM 1992). Neither the paper nor the release uses one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import tensorflow as tf

from feelvos_tf.training.optimizers import move_average, zeros_like


class WeightAverage:
    """average <- decay * average + (1 - decay) * weight after every step, for every weight.

    At the beginning the decay is smaller, (1 + n) / (10 + n) at step n, so that the average does
    not stick to the initial weights (`tf.train.ExponentialMovingAverage` with `num_updates`).

    Keras' average (`use_ema`) is not used because it is part of its optimizers and has no such
    warm-up; `tf.train.ExponentialMovingAverage` rounds differently and cannot be checkpointed.

    Attributes:
      averages: by the variables' names in the 2019 release.
      num_updates: number of updates so far, float32 [].
      state: both, for checkpoints.
    """

    def __init__(self, named_variables: Mapping[str, tf.Variable], decay: float):
        """Creates zeros for every variable; call inside the strategy's scope, then `restart`.

        Args:
          named_variables: trainable variables by their names in the 2019 release.
          decay: share of the average that an update keeps in the long run, at least 0, below 1.
        """
        self._variables = dict(named_variables)
        self._decay = decay
        self.averages = zeros_like(named_variables)
        self.num_updates = tf.Variable(0.0, trainable=False)
        self.state = tf.train.Checkpoint(averages=self.averages, num_updates=self.num_updates)

    def update(self) -> None:
        """Moves the averages toward the weights; call in every replica's replica context."""
        tf.distribute.get_replica_context().merge_call(self._update)

    def restart(self) -> None:
        """Sets the averages to the weights, e.g. after loading weights from elsewhere."""
        for name, average in self.averages.items():
            average.assign(tf.convert_to_tensor(self._variables[name]))
        self.num_updates.assign(0.0)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Sets the variables to their averages inside the block."""
        trained = {name: variable.numpy() for name, variable in self._variables.items()}
        for name, variable in self._variables.items():
            variable.assign(tf.convert_to_tensor(self.averages[name]))
        try:
            yield
        finally:
            for name, variable in self._variables.items():
                variable.assign(trained[name])

    def _update(self, strategy: tf.distribute.Strategy) -> None:
        """Runs in the cross-replica context."""
        updates = self.num_updates.read_value()
        decay = tf.minimum(self._decay, (1.0 + updates) / (10.0 + updates))
        for name, average in self.averages.items():
            strategy.extended.update(average, move_average, args=(self._variables[name], decay))
        strategy.extended.update(self.num_updates, lambda counter: counter.assign_add(1.0))
