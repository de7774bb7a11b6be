"""Fine-tunes a network on the first frame of every video before it propagates the masks.

Only that frame comes with a mask, so the network is trained for some steps on views of it, see
`first_frame_clips`. The 2019 release can make clips of the first frame for this purpose
(`sample_only_first_frame_for_finetuning` in feelvos/train.py); the paper does without on principle
(section 1). FINE_TUNING.md shows gain and cost.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from feelvos_tf.core import settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.data.synthetic_clips import first_frame_clips
from feelvos_tf.inference import window
from feelvos_tf.inference.arguments import ImageLike, MaskLike, as_pair
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.training.clip_forward import BATCH_KEYS
from feelvos_tf.training.losses import BootstrappedCrossEntropy
from feelvos_tf.training.optimizers import AdamOptimizer, LearningRate, is_head
from feelvos_tf.training.train_step import Objective, TrainState, TrainStep, new_step


@settings.configurable
@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How a network is trained on a first frame.

    The defaults were checked, not tuned, on four training videos of DAVIS 2016 that the bundled
    model never saw.

    Attributes:
      learning_rate: of Adam, decaying to 0.
      beta_2: decay of Adam's mean squared gradient.
      adaptive_gradient_clipping: see `AdamOptimizer`.
      top_k_percent_pixels: share of the pixels that count, the hardest ones.
      crop_size: short and long side of the clips, which have the orientation of the frame.
      scales: smallest and largest scaling factor of the frame.
      seed: for clips and dropout.
    """

    learning_rate: settings.NonNegative = 1e-4
    beta_2: settings.Decay = 0.99
    adaptive_gradient_clipping: settings.NonNegative = 3.0
    top_k_percent_pixels: settings.Probability = 0.2
    crop_size: tuple[settings.PositiveInt, settings.PositiveInt] = (257, 449)
    scales: tuple[float, float] = (1.0, 1.4)
    seed: settings.Count = 0

    def __post_init__(self) -> None:
        settings.check_scales("FineTuning.scales", *self.scales)


class FineTunedPredictor(VideoPredictor):
    """A predictor that trains its network on a video's first frame before propagating the mask.

    Each video starts from the network's original weights. There is only one network, so only the
    video started last can continue.
    """

    def __init__(
        self,
        model: Feelvos,
        predictor: Predictor,
        num_steps: int,
        inference_size: int | None = None,
        identity: str = "",
        window: float = 0.0,
    ):
        """Prepares the training of all layers but the backbone.

        Args:
          model: with its variables created and its batch norm not fused.
          predictor: of that model.
          num_steps: training steps on each first frame.
          inference_size: see `VideoPredictor`.
          identity: see `VideoPredictor`.
          window: see `VideoPredictor`; training uses whole frames.
        """
        super().__init__(predictor, inference_size, identity=identity, window=window)
        self._training = _FirstFrameTraining(model, num_steps)

    def another(self) -> FineTunedPredictor:
        """Returns the predictor itself, which has one network and one video at a time."""
        return self

    def start(self, image: ImageLike, mask: MaskLike) -> None:
        """Trains on the first frame, then starts the video. See `VideoPredictor.start`.

        Raises:
          InputError: the mask holds no object or has another size than the image, or the training
            diverged.
        """
        image, mask = as_pair(image, mask)
        everything = window.whole(image.shape[:2], self.inference_size)
        self._training.run(everything.image(image), everything.mask(mask))
        super().start(image, mask)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises InputError: the weights fine-tuned on the first frame of the video are gone."""
        raise InputError("a network fine-tuned on another video's first frame cannot continue")


class _FirstFrameTraining:
    """Trains a network on one frame after another, each time from its original weights."""

    def __init__(self, model: Feelvos, num_steps: int):
        self._settings = FineTuning()
        self._model = model
        self._num_steps = num_steps
        names = release_names(model)
        self._learned = {n: v for n, v in names.items() if v.trainable and is_head(n)}
        # All settings are passed, because those bound by gin are for the network's own training.
        optimizer = AdamOptimizer(
            self._learned,
            beta_1=0.9,
            beta_2=self._settings.beta_2,
            epsilon=1e-8,
            backbone_rate_multiplier=1.0,
            adaptive_gradient_clipping=self._settings.adaptive_gradient_clipping,
        )
        self._state = TrainState(new_step(), optimizer)
        variables = [self._state.step, *names.values(), *optimizer.variables]
        self._original = [(variable, variable.numpy()) for variable in variables]
        self._train_step = self._new_train_step()

    def run(self, image: np.ndarray, mask: np.ndarray) -> None:
        """Trains on a frame and its mask, at the size at which the network will run."""
        for variable, value in self._original:
            variable.assign(value)
        short, long = sorted(self._settings.crop_size)
        crop_size = (long, short) if mask.shape[0] > mask.shape[1] else (short, long)
        crop_size = tuple(map(min, crop_size, mask.shape))
        clips = first_frame_clips(
            image, mask, self._num_steps, crop_size, self._settings.seed, self._settings.scales
        )
        with tqdm(clips, "fine-tuning", self._num_steps, unit="step", leave=False) as progress:
            losses = []
            for clip in progress:
                result = self._train_step({key: clip[key] for key in BATCH_KEYS}, 1)
                losses.append(float(result.scalars["loss"]))
                progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
        if not losses:
            tqdm.write("not fine-tuned: the objects of the first frame are too small")
        elif not math.isfinite(losses[-1]):
            raise InputError(
                f"fine-tuning: expected a finite loss, found {losses[-1]} after {len(losses)} steps"
            )

    def _new_train_step(self) -> TrainStep:
        loss = BootstrappedCrossEntropy(
            top_k_percent_pixels=self._settings.top_k_percent_pixels,
            hard_example_mining_step=0,
            upsample_logits=True,
            weight=1.0,
        )
        rate = LearningRate(
            policy="poly",
            base=self._settings.learning_rate,
            power=0.9,
            slow_start_step=0,
            schedule=None,
        )
        return TrainStep(
            self._model,
            self._learned,
            self._state,
            self._num_steps,
            Objective([loss], weight_decay=0.0, summed_clips=None),
            learning_rate=rate,
            seed=self._settings.seed,
        )
