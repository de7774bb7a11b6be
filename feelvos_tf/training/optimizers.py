"""Updates weights from gradients: momentum as in the release, or Adam."""

from __future__ import annotations

from collections.abc import Mapping

import gin
import tensorflow as tf

from feelvos_tf.core.setting_types import checked
from feelvos_tf.models.release_checkpoint import LAST_LAYERS
from feelvos_tf.training.loss_scale import LossScale

# How the names of variables begin that are not the backbone's, whichever it is.
_HEAD_SCOPES = (*LAST_LAYERS, "embedding")
# Updates after which the mean squares of gradients can be trusted.
_USUAL_AFTER = 20.0


class Optimizer(tf.Module):
    """Sums the gradients of all replicas and updates every variable on every device.

    Subclasses say how one variable follows from its gradient. The learning rate comes with every
    update, because it falls with the training step.
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
        """Updates the variables; call in a replica, in every replica alike.

        Args:
          gradients: this replica's gradients by release name. Those of all replicas are added.
          learning_rate: float32 [].
          loss_scale: told whether the gradients are finite; where they are not, nothing else is
            changed.
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

    def transform(self, name: str, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient as it enters the update."""
        raise NotImplementedError

    def _update(self, strategy, gradients, learning_rate) -> None:
        """Updates all variables; runs across replicas."""
        raise NotImplementedError

    def _update_if(self, strategy, condition, gradients, learning_rate) -> None:
        """Does the same, or nothing; `condition` is equal on all replicas."""

        def update() -> tf.Tensor:
            self._update(strategy, gradients, learning_rate)
            return tf.constant(True)

        tf.cond(strategy.experimental_local_results(condition)[0], update, lambda: False)

    def _zeros(self) -> dict[str, tf.Variable]:
        """Returns a slot of zeros for every variable."""
        return {
            name: tf.Variable(tf.zeros_like(variable), trainable=False)
            for name, variable in self._variables.items()
        }


@gin.configurable
class MomentumOptimizer(Optimizer):
    """Momentum in the release's form and order.

    Each gradient (weight decay included) is multiplied, then clipped by its own norm, then
    accumulated: a = momentum * a + g, w -= learning_rate * a. The learning rate stays outside of
    the accumulator, unlike in `tf.keras.optimizers`, where other weights follow when it falls.

    Source: section 3, Implementation Details (momentum 0.9); deeplab/utils/train_utils.py and
    slim.learning. The paper mentions neither the doubled biases nor the clipping.
    """

    @checked("MomentumOptimizer", momentum=(0.0, 0.999999), clip_gradient_norm=(0.0, None))
    def __init__(
        self,
        named_variables: Mapping[str, tf.Variable],
        momentum: float = 0.9,
        clip_gradient_norm: float = 5.0,
        bias_gradient_multiplier: float = 2.0,
        last_layer_gradient_multiplier: float = 1.0,
    ):
        """Makes an accumulator of zeros for every variable; call inside the strategy's scope.

        Args:
          named_variables: trainable variables by their names in the 2019 release.
          momentum: share of the accumulator that survives a step.
          clip_gradient_norm: largest norm of one variable's gradient; 0 for no limit.
          bias_gradient_multiplier: factor for the gradients of `biases` (2 in the release).
          last_layer_gradient_multiplier: factor for DeepLab's own layers behind the backbone.
        """
        super().__init__(named_variables)
        self._momentum = momentum
        self._clip_norm = clip_gradient_norm
        self._multipliers = {
            name: gradient_multiplier(
                name, bias_gradient_multiplier, last_layer_gradient_multiplier
            )
            for name in named_variables
        }
        self.accumulators = self._zeros()

    def transform(self, name: str, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient multiplied and clipped, as it enters the accumulator."""
        if self._multipliers[name] != 1.0:
            gradient = self._multipliers[name] * gradient
        return tf.clip_by_norm(gradient, self._clip_norm) if self._clip_norm else gradient

    def _update(self, strategy, gradients, learning_rate) -> None:
        """Updates accumulators and variables on every device; runs across replicas."""
        for name, gradient in gradients.items():
            accumulator = self.accumulators[name]
            strategy.extended.update(accumulator, self._accumulate, args=(gradient,))
            strategy.extended.update(
                self._variables[name], _descend, args=(accumulator, learning_rate)
            )

    def _accumulate(self, accumulator: tf.Variable, gradient: tf.Tensor) -> None:
        accumulator.assign(self._momentum * accumulator + gradient)


@gin.configurable
class AdamOptimizer(Optimizer):
    """Adam, for trainings too short for momentum: `Trainer.optimizer = @AdamOptimizer`.

    Every weight moves by about the learning rate, however small its gradient. New layers whose
    gradients differ by orders of magnitude so learn at the same pace, which momentum needs many
    thousands of steps for. Neither the paper nor the release uses it.

    Weights are those of Keras' Adam, which is not used because it has one learning rate for all
    variables, and other names for its slots than the checkpoints of earlier runs.

    Source: Kingma and Ba, ICLR 2015, algorithm 1 in the order of its section 2 (the bias
    corrections are part of the learning rate).
    """

    @checked(
        "AdamOptimizer",
        beta_1=(0.0, 0.999999),
        beta_2=(0.0, 0.999999),
        epsilon=(0.0, None),
        backbone_rate_multiplier=(0.0, None),
        adaptive_gradient_clipping=(0.0, None),
    )
    def __init__(
        self,
        named_variables: Mapping[str, tf.Variable],
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        backbone_rate_multiplier: float = 1.0,
        adaptive_gradient_clipping: float = 0.0,
    ):
        """Makes two slots of zeros for every variable; call inside the strategy's scope.

        Args:
          named_variables: trainable variables by their names in the 2019 release.
          beta_1: share of the mean gradient that survives a step.
          beta_2: share of the mean squared gradient that survives a step.
          epsilon: added to the root of the latter.
          backbone_rate_multiplier: factor for the learning rate of the pre-trained backbone.
          adaptive_gradient_clipping: a variable's gradient is shortened to this many times its usual length,
            the root of the sum of its mean squares; 0 for no limit. A constant rate needs one: a
            single odd clip can otherwise throw a training off its course.
        """
        super().__init__(named_variables)
        self._betas = (beta_1, beta_2)
        self._epsilon = epsilon
        self._backbone_rate_multiplier = backbone_rate_multiplier
        self._largest_gradient = adaptive_gradient_clipping
        self.first_moments = self._zeros()
        self.second_moments = self._zeros()
        self.num_updates = tf.Variable(0.0, trainable=False)

    def transform(self, name: str, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient as it is: Adam does not see a constant factor."""
        return gradient

    def _update(self, strategy, gradients, learning_rate) -> None:
        beta_1, beta_2 = self._betas
        if self._largest_gradient:
            gradients = self._shortened(gradients, self.num_updates.read_value())
        strategy.extended.update(self.num_updates, _count)
        updates = self.num_updates.read_value()
        correction = tf.sqrt(1.0 - tf.pow(beta_2, updates)) / (1.0 - tf.pow(beta_1, updates))
        for name, gradient in gradients.items():
            first, second = self.first_moments[name], self.second_moments[name]
            strategy.extended.update(first, _average, args=(gradient, beta_1))
            strategy.extended.update(second, _average_squares, args=(gradient, beta_2))
            step_size = learning_rate * correction
            if not is_head(name):
                step_size *= self._backbone_rate_multiplier
            args = (first, second, step_size)
            strategy.extended.update(self._variables[name], self._descend, args=args)

    def _shortened(self, gradients, updates: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the gradients, of which none is longer than is usual for its variable."""
        correction = tf.maximum(1.0 - tf.pow(self._betas[1], updates), 1e-9)
        # In the first steps nobody knows what is usual.
        knows = updates >= _USUAL_AFTER
        shortened = {}
        for name, gradient in gradients.items():
            usual = tf.sqrt(tf.reduce_sum(self.second_moments[name]) / correction)
            length, largest = tf.norm(gradient), self._largest_gradient * usual
            is_odd = knows & (length > largest)
            factor = tf.where(is_odd, largest / tf.where(is_odd, length, 1.0), 1.0)
            shortened[name] = factor * gradient
        return shortened

    def _descend(self, variable, first, second, step_size) -> None:
        variable.assign_sub(step_size * first / (tf.sqrt(second) + self._epsilon))


def is_head(name: str) -> bool:
    """Returns whether the variable with this name in the 2019 release is not the backbone's."""
    return name.startswith(_HEAD_SCOPES)


def gradient_multiplier(
    name: str, bias_multiplier: float = 2.0, last_layer_multiplier: float = 1.0
) -> float:
    """Returns the factor for the gradient of the variable with this name in the 2019 release."""
    factor = bias_multiplier if "biases" in name else 1.0
    return factor * last_layer_multiplier if any(l in name for l in LAST_LAYERS) else factor


def _descend(variable: tf.Variable, accumulator: tf.Tensor, learning_rate: tf.Tensor) -> None:
    variable.assign_sub(learning_rate * accumulator)


def _average(slot: tf.Variable, value: tf.Tensor, kept: float) -> None:
    slot.assign(kept * slot + (1.0 - kept) * value)


def _average_squares(slot: tf.Variable, value: tf.Tensor, kept: float) -> None:
    slot.assign(kept * slot + (1.0 - kept) * tf.square(value))


def _count(slot: tf.Variable) -> None:
    slot.assign_add(1.0)
