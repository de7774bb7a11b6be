"""Learning-rate schedules, and the optimizers: momentum and Adam."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Literal

import gin
import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.models.release_checkpoint import LAST_LAYERS
from feelvos_tf.training.mixed_precision import LossScale

# Prefixes of the names of all variables outside the backbone, whichever backbone it is.
_HEAD_SCOPES = (*LAST_LAYERS, "embedding")
# Updates after which the mean squares of gradients can be trusted.
_USUAL_AFTER = 20.0

Schedule = tf.keras.optimizers.schedules.LearningRateSchedule
_SCHEDULES = (
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
)
for _name in _SCHEDULES:
    gin.external_configurable(getattr(tf.keras.optimizers.schedules, _name), module="keras")


@settings.configurable
@dataclasses.dataclass(frozen=True)
class LearningRate:
    """The learning rate at every step, by one of the release's two policies or Keras' schedules.

    `poly` decays from `base` to 0 at the last step, as in the release; `step` multiplies by
    `decay_factor` every `decay_step` steps. A slow start holds `slow_start_rate` for the first
    `slow_start_step` steps; the policy then runs from its beginning to the same end.

    Keras' schedules are bound by name, e.g. `LearningRate.schedule = @CosineDecay()` with
    `CosineDecay.initial_learning_rate = 0.001` and `CosineDecay.decay_steps = 10000`. Your own are
    subclasses of `LearningRateSchedule` decorated with `@gin.register`.

    Source: section 3, Implementation Details (base 0.0007); deeplab/utils/train_utils.py.

    Attributes:
      policy: how the rate decays.
      base: initial learning rate.
      power: exponent of the decay, with 'poly'.
      decay_step: updates between two decays, with 'step'.
      decay_factor: factor of each decay, with 'step'.
      slow_start_step: number of updates before the policy begins.
      slow_start_rate: learning rate during these updates.
      schedule: a Keras schedule, used instead of `policy` and its settings.

    Raises:
      InputError: `schedule` is not a Keras schedule.
    """

    policy: Literal["poly", "step"] = "poly"
    base: settings.NonNegative = 0.0007
    power: settings.NonNegative = 0.9
    decay_step: settings.PositiveInt = 2000
    decay_factor: settings.NonNegative = 0.1
    slow_start_step: settings.Count = 0
    slow_start_rate: settings.NonNegative = 1e-4
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            raise InputError(
                "LearningRate.schedule: expected a schedule such as @CosineDecay(), with "
                f"parentheses, found {self.schedule!r}"
            )

    def __call__(self, step: tf.Tensor, num_steps: int) -> tf.Tensor:
        """Returns the learning rate of one step, float32 [].

        Args:
          step: int64 [], number of updates made so far.
          num_steps: number of updates in the whole run.
        """
        step = tf.cast(step, tf.int64)
        return tf.where(
            step < self.slow_start_step,
            self.slow_start_rate,
            self._after_start(step - self.slow_start_step, num_steps - self.slow_start_step),
        )

    def _after_start(self, step: tf.Tensor, num_steps: int) -> tf.Tensor:
        if self.schedule is not None:
            return tf.cast(self.schedule(step), tf.float32)
        if self.policy == "poly":
            done = tf.cast(tf.clip_by_value(step, 0, num_steps), tf.float32)
            return self.base * tf.pow(1.0 - done / float(num_steps), self.power)
        decays = tf.cast(step // self.decay_step, tf.float32)
        return self.base * tf.pow(self.decay_factor, decays)


class Optimizer(tf.Module, abc.ABC):
    """Sums the gradients of all replicas and updates every variable on every device.

    Subclasses define how a variable is updated from its gradient. The learning rate is passed to
    every update because it depends on the training step.
    """

    def __init__(self, named_variables: Mapping[str, tf.Variable]):
        """Stores the trainable variables by their names in the 2019 release."""
        super().__init__()
        self._variables = dict(named_variables)

    def apply(
        self,
        gradients: Mapping[str, tf.Tensor],
        learning_rate: tf.Tensor,
        loss_scale: LossScale | None = None,
    ) -> None:
        """Updates the variables; call in the replica context of every replica.

        Args:
          gradients: this replica's gradients by release name; those of all replicas are summed.
          learning_rate: float32 [].
          loss_scale: adjusted afterwards. If a gradient is not finite, nothing else changes.
        """
        replica = tf.distribute.get_replica_context()
        names = list(gradients)
        summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, [gradients[n] for n in names])
        final = {name: self.transform(name, g) for name, g in zip(names, summed)}
        if loss_scale is None:
            replica.merge_call(self._update, args=(final, learning_rate))
            return
        are_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in summed])
        replica.merge_call(self._update_if, args=(are_finite, final, learning_rate))
        loss_scale.update(are_finite)

    @abc.abstractmethod
    def transform(self, name: str, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient as it enters the update; runs in a replica context."""

    @abc.abstractmethod
    def _update(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Mapping[str, tf.Tensor],
        learning_rate: tf.Tensor,
    ) -> None:
        """Updates slots and variables on every device; runs in the cross-replica context."""

    def _update_if(self, strategy, condition, gradients, learning_rate) -> None:
        """Calls `_update` if `condition`, which is equal on all replicas, is true."""

        def update() -> tf.Tensor:
            self._update(strategy, gradients, learning_rate)
            return tf.constant(True)

        tf.cond(strategy.experimental_local_results(condition)[0], update, lambda: False)


@settings.configurable
class MomentumOptimizer(Optimizer):
    """Momentum in the release's form and order.

    Each gradient (weight decay included) is multiplied, then clipped by its own norm, then
    accumulated: a = momentum * a + g, w -= learning_rate * a. The learning rate stays outside the
    accumulator. Keras' SGD puts it inside, which gives different weights when the rate decays.

    Source: section 3, Implementation Details (momentum 0.9); deeplab/utils/train_utils.py and
    slim.learning. The paper mentions neither the doubled biases nor the clipping.
    """

    def __init__(
        self,
        named_variables: Mapping[str, tf.Variable],
        momentum: settings.Decay = 0.9,
        clip_gradient_norm: settings.NonNegative = 5.0,
        bias_gradient_multiplier: float = 2.0,
        last_layer_gradient_multiplier: float = 1.0,
        last_layers_contain_logits_only: bool = False,
    ):
        """Creates an accumulator of zeros for every variable; call inside the strategy's scope.

        Args:
          named_variables: trainable variables by their names in the 2019 release.
          momentum: decay of the accumulator.
          clip_gradient_norm: largest norm of one variable's gradient; 0 for no clipping.
          bias_gradient_multiplier: factor for the gradients of `biases` (2 in the release).
          last_layer_gradient_multiplier: factor for DeepLab's own layers after the backbone.
          last_layers_contain_logits_only: whether that factor applies to the last convolution
            alone. (The release then also loads ASPP and decoder: `InitialWeights.last_layers`.)
        """
        super().__init__(named_variables)
        self._momentum = momentum
        self._clip_norm = clip_gradient_norm
        last_layers = LAST_LAYERS[:1] if last_layers_contain_logits_only else LAST_LAYERS
        self._multipliers = {
            name: (bias_gradient_multiplier if "biases" in name else 1.0)
            * (last_layer_gradient_multiplier if any(l in name for l in last_layers) else 1.0)
            for name in named_variables
        }
        self.accumulators = zeros_like(named_variables)

    def transform(self, name: str, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient multiplied and clipped, as it enters the accumulator."""
        if self._multipliers[name] != 1.0:
            gradient = self._multipliers[name] * gradient
        return tf.clip_by_norm(gradient, self._clip_norm) if self._clip_norm else gradient

    def _update(self, strategy, gradients, learning_rate) -> None:
        for name, gradient in gradients.items():
            accumulator = self.accumulators[name]
            strategy.extended.update(accumulator, self._accumulate, args=(gradient,))
            strategy.extended.update(
                self._variables[name], _descend, args=(accumulator, learning_rate)
            )

    def _accumulate(self, accumulator: tf.Variable, gradient: tf.Tensor) -> None:
        accumulator.assign(self._momentum * accumulator + gradient)


@settings.configurable
class AdamOptimizer(Optimizer):
    """Adam, for runs too short for momentum: `Trainer.optimizer = @AdamOptimizer`.

    Every weight moves by about the learning rate, however small its gradient, so new layers whose
    gradients differ by orders of magnitude learn at the same pace. With momentum that takes many
    thousands of steps. Neither the paper nor the release uses Adam.

    The results equal those of Keras' Adam, which is not used because it has one learning rate for
    all variables and names its slots by position, so checkpoints would depend on their order.

    Source: Kingma and Ba, ICLR 2015, algorithm 1 in the order of its section 2 (the bias
    corrections are part of the learning rate).
    """

    def __init__(
        self,
        named_variables: Mapping[str, tf.Variable],
        beta_1: settings.Decay = 0.9,
        beta_2: settings.Decay = 0.999,
        epsilon: settings.NonNegative = 1e-8,
        backbone_rate_multiplier: settings.NonNegative = 1.0,
        adaptive_gradient_clipping: settings.NonNegative = 0.0,
    ):
        """Creates two slots of zeros for every variable; call inside the strategy's scope.

        Args:
          named_variables: trainable variables by their names in the 2019 release.
          beta_1: decay of the mean gradient.
          beta_2: decay of the mean squared gradient.
          epsilon: added to the root of the latter.
          backbone_rate_multiplier: factor for the learning rate of the pre-trained backbone.
          adaptive_gradient_clipping: a variable's gradient is clipped to this many times its usual
            norm, the root of the sum of its mean squares; 0 for no clipping. Needed with a
            constant learning rate, where a single odd clip can throw a run off course.
        """
        super().__init__(named_variables)
        self._betas = (beta_1, beta_2)
        self._epsilon = epsilon
        self._backbone_rate_multiplier = backbone_rate_multiplier
        self._clip_factor = adaptive_gradient_clipping
        self.first_moments = zeros_like(named_variables)
        self.second_moments = zeros_like(named_variables)
        self.num_updates = tf.Variable(0.0, trainable=False)

    def transform(self, name: str, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient, clipped if its norm is unusual for its variable.

        Constant factors would have no effect: Adam is invariant to the scale of the gradients.
        """
        if not self._clip_factor:
            return gradient
        updates = self.num_updates.read_value()
        correction = tf.maximum(1.0 - tf.pow(self._betas[1], updates), 1e-9)
        usual = tf.sqrt(tf.reduce_sum(self.second_moments[name].read_value()) / correction)
        norm, limit = tf.norm(gradient), self._clip_factor * usual
        # The first few updates do not show what is usual.
        is_odd = (updates >= _USUAL_AFTER) & (norm > limit)
        return tf.where(is_odd, limit / tf.where(is_odd, norm, 1.0), 1.0) * gradient

    def _update(self, strategy, gradients, learning_rate) -> None:
        beta_1, beta_2 = self._betas
        strategy.extended.update(self.num_updates, lambda counter: counter.assign_add(1.0))
        updates = self.num_updates.read_value()
        correction = tf.sqrt(1.0 - tf.pow(beta_2, updates)) / (1.0 - tf.pow(beta_1, updates))
        for name, gradient in gradients.items():
            first, second = self.first_moments[name], self.second_moments[name]
            strategy.extended.update(first, move_average, args=(gradient, beta_1))
            strategy.extended.update(second, _average_squares, args=(gradient, beta_2))
            step_size = learning_rate * correction
            if not is_head(name):
                step_size *= self._backbone_rate_multiplier
            args = (first, second, step_size)
            strategy.extended.update(self._variables[name], self._descend, args=args)

    def _descend(self, variable, first, second, step_size) -> None:
        variable.assign_sub(step_size * first / (tf.sqrt(second) + self._epsilon))


def is_head(name: str) -> bool:
    """Returns whether the variable with this name in the 2019 release is outside the backbone."""
    return name.startswith(_HEAD_SCOPES)


def zeros_like(named_variables: Mapping[str, tf.Variable]) -> dict[str, tf.Variable]:
    """Returns a slot of zeros for every variable."""
    return {
        name: tf.Variable(tf.zeros_like(variable), trainable=False)
        for name, variable in named_variables.items()
    }


def move_average(average: tf.Variable, value: tf.Tensor, decay: float | tf.Tensor) -> None:
    """Moves an exponential average toward a value."""
    average.assign(decay * average + (1.0 - decay) * value)


def _descend(variable: tf.Variable, accumulator: tf.Tensor, learning_rate: tf.Tensor) -> None:
    variable.assign_sub(learning_rate * accumulator)


def _average_squares(average: tf.Variable, value: tf.Tensor, decay: float) -> None:
    move_average(average, tf.square(value), decay)
