"""The interface of a loss, bootstrapped cross entropy and weight decay."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import CURRENT, VOID
from feelvos_tf.core.resizing import resize_bilinear, resize_nearest
from feelvos_tf.models.feelvos import ClipOutput


class LossInputs(NamedTuple):
    """Input of a loss: one clip, and the network's output for it.

    Attributes:
      output: logits float32 [num_objects, h, w, 1] of the current frame at stride 4 and of the
        frames that follow it, if any; distance maps; and embeddings float32 [3, h, w, channels] of
        the reference, previous and current frame.
      labels: int32 [frames, height, width], object indices; 255 is void and never counts.
      num_objects: int32 [], background included.
      step: int64 [], number of updates made so far.
      seed: integer [2] for reproducible random choices, or None.
    """

    output: ClipOutput
    labels: tf.Tensor
    num_objects: tf.Tensor
    step: tf.Tensor
    seed: tf.Tensor | None


class Loss(abc.ABC):
    """A term of what training minimizes: the sum of `weight * loss(clip)` over losses and clips.

    To add one, write a gin-configurable subclass and list it in `Objective.losses`; log and
    TensorBoard show it under its name.

    Attributes:
      name: in log and TensorBoard.
      weight: factor in the total; a loss of weight 0 is not computed.
    """

    name: str
    weight: float

    @abc.abstractmethod
    def __call__(self, clip: LossInputs) -> tf.Tensor:
        """Returns the loss of one clip without the weight, float32 []."""


@settings.configurable
@dataclasses.dataclass(frozen=True)
class BootstrappedCrossEntropy(Loss):
    """Mean cross entropy over the hardest pixels of the current frame.

    The share of pixels that count decreases linearly from all of them at step 0 to
    `top_k_percent_pixels` at `hard_example_mining_step` (0: from the start), a warm-up of the
    release that the paper does not mention.

    Source: section 3, Implementation Details; feelvos/utils/train_utils.py.

    Attributes:
      top_k_percent_pixels: final share of the pixels that count, 0..1.
      hard_example_mining_step: step at which that share is reached.
      upsample_logits: whether logits are resized to the labels, or labels to the logits.
      weight: factor in the total loss.
      pool_frames: with a rollout, whether the hardest pixels are chosen among all predicted
        frames together, as in the release, or in each frame, with their losses averaged.
    """

    name = "cross_entropy"
    top_k_percent_pixels: settings.Probability = 0.15
    hard_example_mining_step: settings.Count = 100_000
    upsample_logits: bool = True
    weight: settings.NonNegative = 1.0
    pool_frames: bool = True

    def __call__(self, clip: LossInputs) -> tf.Tensor:
        """Returns the loss of the current frame and of those predicted after it, float32 []."""
        logits = [clip.output.logits, *clip.output.further_logits]
        frames = [(each, clip.labels[CURRENT + i]) for i, each in enumerate(logits)]
        if self.pool_frames:
            return self.of_frames(frames, clip.step)
        return tf.add_n([self.of_frames([frame], clip.step) for frame in frames]) / len(frames)

    def of_frames(
        self, frames: Sequence[tuple[tf.Tensor, tf.Tensor]], step: tf.Tensor
    ) -> tf.Tensor:
        """Returns the mean over the hardest pixels of all frames (logits, labels), float32 []."""
        pixels = []
        for logits, labels in frames:
            if self.upsample_logits:
                logits = resize_bilinear(logits, tf.shape(labels))
            else:
                labels = resize_nearest(labels, tf.shape(logits)[1:3])
            pixels.append(_pixel_cross_entropy(logits, labels))
        losses, valid = (tf.concat(parts, 0) for parts in zip(*pixels))
        count = tf.maximum(self._num_hardest(tf.size(losses), step), 1)
        hardest, indices = tf.math.top_k(losses, k=count, sorted=False)
        num_valid = tf.reduce_sum(tf.gather(valid, indices))
        return tf.reduce_sum(hardest) / tf.maximum(num_valid, 1.0)

    def _num_hardest(self, num_pixels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Returns how many pixels count at this step, void ones included as in the release."""
        if self.hard_example_mining_step == 0:
            ratio = tf.constant(1.0)
        else:
            ratio = tf.minimum(tf.cast(step, tf.float32) / self.hard_example_mining_step, 1.0)
        share = ratio * self.top_k_percent_pixels + (1.0 - ratio)
        return tf.cast(share * tf.cast(num_pixels, tf.float32), tf.int32)


def weight_decay_loss(named_variables: Mapping[str, tf.Variable], weight_decay: float) -> tf.Tensor:
    """Returns weight_decay * sum(w^2) / 2 over the regularized variables, float32 [].

    As in the release, only full and 1x1 convolutions are regularized: not depthwise kernels,
    biases, or batch-norm scales and offsets.

    Args:
      named_variables: trainable variables by their names in the 2019 release.
      weight_decay: the factor.
    """
    kernels = [v for name, v in named_variables.items() if is_regularized(name)]
    return weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])


def is_regularized(name: str) -> bool:
    """Returns whether weight decay applies to the variable with this name in the 2019 release."""
    return name.split("/")[-1] == "weights"


def _pixel_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns cross entropy (0 at void) and validity of every pixel, float32 [pixels] both."""
    valid = labels != VOID
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(tf.where(valid, labels, 0), [-1]),
        logits=tf.reshape(tf.transpose(logits[..., 0], [1, 2, 0]), [tf.size(labels), -1]),
    )
    weights = tf.reshape(tf.cast(valid, tf.float32), [-1])
    return cross_entropy * weights, weights
