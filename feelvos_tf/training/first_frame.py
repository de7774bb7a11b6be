"""Fine-tunes a network on the first frame of every video before it segments the others.

No other frame of a video comes with a mask. So the network is trained for some steps on views of
that one, see `first_frame_clips`. The 2019 release has clips of the first frame for it
(`sample_only_first_frame_for_finetuning` of feelvos/train.py); the paper does without, as a matter
of principle (section 1). FINE_TUNING.md tells what it brings and costs.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.synthetic_clips import first_frame_clips
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_predictor import (
    VideoPredictor,
    downsample_mask,
    model_size,
    scaled,
)
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.training.learning_rate import LearningRate
from feelvos_tf.training.losses import BootstrappedCrossEntropy
from feelvos_tf.training.optimizers import AdamOptimizer, is_head
from feelvos_tf.training.train_step import BATCH_KEYS, TrainStep

# Checked, not tuned, on four training videos of DAVIS 2016 that the bundled model never saw.
_LEARNING_RATE = 1e-4
_CROP_SIZE = (257, 449)
_HARDEST_SHARE = 0.2
_SEED = 0


class FineTunedPredictor(VideoPredictor):
    """A predictor whose network is trained on the first frame of each video that it starts.

    Each video begins with the weights that the network had at first. There is one network, so
    starting a video ends the one before.
    """

    def __init__(
        self,
        model: Feelvos,
        predictor: Predictor,
        num_steps: int,
        inference_size: int | None = None,
        identity: str = "",
    ):
        """Prepares the training; all layers behind the backbone take part in it.

        Args:
          model: with its variables created and its batch norm not fused.
          predictor: of that model.
          num_steps: of the training on a first frame.
          inference_size: see `VideoPredictor`.
          identity: see `VideoPredictor`.
        """
        super().__init__(predictor, inference_size, identity=identity)
        self._num_steps = num_steps
        names = release_names(model)
        learned = {n: v for n, v in names.items() if v.trainable and is_head(n)}
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
        # All settings are given: those of the network's own training are for something else.
        optimizer = AdamOptimizer(
            learned, beta_1=0.9, beta_2=0.99, epsilon=1e-8, adaptive_gradient_clipping=3.0
        )
        loss = BootstrappedCrossEntropy(
            top_k_percent_pixels=_HARDEST_SHARE,
            hard_example_mining_step=0,
            upsample_logits=True,
            weight=1.0,
        )
        rate = LearningRate(policy="poly", base=_LEARNING_RATE, power=0.9, slow_start_step=0)
        self._train_step = TrainStep(
            model,
            learned,
            step,
            optimizer,
            num_steps,
            weight_decay=0.0,
            losses=[loss],
            seed=_SEED,
            learning_rate=rate,
        )
        variables = [step, *names.values(), *optimizer.variables]
        self._at_first = [(variable, variable.numpy()) for variable in variables]

    def another(self) -> FineTunedPredictor:
        """Returns this predictor: there is one network."""
        return self

    def start(self, image: np.ndarray, mask: np.ndarray) -> None:
        """Trains on the first frame and starts the video. See `VideoPredictor.start`.

        Raises:
          InputError: the mask holds no object or has another size than the image, or the training
            came to nothing.
        """
        size = model_size(image.shape[:2], self.inference_size)
        self._fine_tune(scaled(image, size), downsample_mask(mask, size))
        super().start(image, mask)

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Refuses, so that a video that was interrupted begins anew.

        Raises:
          InputError: always, for the weights of its first frame are gone.
        """
        raise InputError("a network fine-tuned on another video's first frame cannot go on")

    def _fine_tune(self, image: np.ndarray, mask: np.ndarray) -> None:
        """Trains on a frame and its mask, at the size at which the network will run."""
        for variable, value in self._at_first:
            variable.assign(value)
        long, short = max(_CROP_SIZE), min(_CROP_SIZE)
        crop_size = (long, short) if mask.shape[0] > mask.shape[1] else (short, long)
        crop_size = tuple(map(min, crop_size, mask.shape))
        clips = first_frame_clips(image, mask, self._num_steps, crop_size, _SEED)
        with tqdm(clips, "fine-tuning", self._num_steps, unit="step", leave=False) as progress:
            losses = [self._step(clip, progress) for clip in progress]
        if not losses:
            tqdm.write("not fine-tuned: the objects of the first frame are too small")
        elif not math.isfinite(losses[-1]):
            raise InputError(
                f"fine-tuning: expected a loss that is a number, found {losses[-1]} after "
                f"{len(losses)} steps"
            )

    def _step(self, clip: dict[str, tf.Tensor], progress: tqdm) -> float:
        """Returns the loss of one clip before the update that it leads to."""
        batch = {key: clip[key] for key in BATCH_KEYS}
        loss = float(self._train_step(batch, 1).scalars["loss"])
        progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
        return loss
