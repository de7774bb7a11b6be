"""An exponential moving average of the weights: validated and exported instead of the last ones.

With a constant learning rate weights keep jumping about a good place; their average lies nearer to
it, so a training can be stopped at any time without a falling rate. Polyak and Juditsky, SIAM 1992;
the paper and its release do without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import tensorflow as tf


class WeightAverage:
    """average <- decay * average + (1 - decay) * weight after every step, for every weight.

    In the beginning the decay is smaller, (1 + n) / (10 + n) at step n, so that the average does
    not stick to the initial weights (`tf.train.ExponentialMovingAverage` with `num_updates`).

    Attributes:
      averages: by the variables' names in the 2019 release.
      num_updates: how often they were moved, float32 [].
      state: both, to be saved with a training.
    """

    def __init__(self, named_variables: Mapping[str, tf.Variable], decay: float):
        """Makes a copy of every variable; call inside the strategy's scope.

        Args:
          named_variables: trainable variables by their names in the 2019 release.
          decay: share of the average that survives a step in the long run, 0 to below 1.
        """
        self._variables = dict(named_variables)
        self._decay = decay
        self.averages = {
            name: tf.Variable(tf.zeros_like(variable), trainable=False)
            for name, variable in self._variables.items()
        }
        self.num_updates = tf.Variable(0.0, trainable=False)
        self.state = tf.train.Checkpoint(averages=self.averages, num_updates=self.num_updates)

    def update(self) -> None:
        """Moves the averages towards the weights; call in a replica, in every replica alike."""
        tf.distribute.get_replica_context().merge_call(self._update)

    def restart(self) -> None:
        """Makes the averages equal to the weights, as after weights were loaded from elsewhere."""
        for name, average in self.averages.items():
            average.assign(tf.convert_to_tensor(self._variables[name]))
        self.num_updates.assign(0.0)

    def hand_over(self) -> None:
        """Gives the variables the values of their averages."""
        for name, variable in self._variables.items():
            variable.assign(tf.convert_to_tensor(self.averages[name]))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Lets the variables hold their averages inside the block."""
        trained = {name: variable.numpy() for name, variable in self._variables.items()}
        self.hand_over()
        try:
            yield
        finally:
            for name, variable in self._variables.items():
                variable.assign(trained[name])

    def _update(self, strategy: tf.distribute.Strategy) -> None:
        """Runs across replicas."""
        updates = self.num_updates.read_value()
        decay = tf.minimum(self._decay, (1.0 + updates) / (10.0 + updates))
        for name, average in self.averages.items():
            strategy.extended.update(average, _mix, args=(self._variables[name], decay))
        strategy.extended.update(self.num_updates, _count)


def _mix(average: tf.Variable, weight: tf.Variable, decay: tf.Tensor) -> None:
    average.assign(decay * average + (1.0 - decay) * weight)


def _count(slot: tf.Variable) -> None:
    slot.assign_add(1.0)
