"""FEELVOS in TensorFlow 2: fast end-to-end embedding learning for video object segmentation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from feelvos_tf.inference.video_predictor import VideoPredictor

__version__ = "0.1.0"


def load(
    saved_model: str | os.PathLike[str] | None = None,
    inference_size: int | None = None,
    max_total_reference_pixels: int | None = None,
    window: float | None = None,
) -> VideoPredictor:
    """Returns a trained model that segments a video given as NumPy arrays.

    All that it can do: feelvos_tf/inference/README.md. On a CPU with AVX2 but no AVX512-VNNI, set
    TF_ENABLE_ONEDNN_OPTS=1 before TensorFlow 2.15 is imported: it makes a frame a fifth faster, and
    the masks those of the programs, which set it. The first call of a version writes 20 MB to
    ~/.cache/feelvos_tf, from which later processes start sooner (FEELVOS_CACHE= without).

    Example:
      import feelvos_tf
      from feelvos_tf.media import video

      frames = list(video.open_frames("testdata/bunny.mp4"))    # uint8 [height, width, 3] each
      mask = feelvos_tf.read_mask("testdata/bunny.png")         # uint8 [height, width]
      predictor = feelvos_tf.load()
      predictor.start(frames[0], mask)
      for frame in frames[1:]:
          ids = predictor.step(frame)                           # uint8 [height, width]

    Args:
      saved_model: folder that `feelvos_tf.export` wrote; the bundled model by default.
      inference_size: frames are scaled so that their short side has this many pixels while the
        model runs, e.g. 240 where time matters. By default a SavedModel runs on the frames as
        they are, the bundled model at the size at which it scores best.
      max_total_reference_pixels: pixels (of a grid at a quarter of the frames' resolution) that an
        object keeps of all frames in which it was marked; what a video's memory can grow by. By
        default the setting that the model was written with, 65536 unless it says otherwise.
      window: share of a frame's pixels that is computed, around the objects; 0 for whole frames,
        as in the paper and, by default, with a SavedModel.

    Raises:
      feelvos_tf.core.errors.InputError: the model is missing or damaged.
    """
    from feelvos_tf.inference import model_loading

    return model_loading.choose(saved_model, inference_size, window).load(
        max_total_reference_pixels
    )


def read_mask(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns the object ids of a mask, uint8 [height, width]; 0 is background, 255 void.

    It reads what `--mask` reads: masks drawn in any paint program or written by other programs, see
    feelvos_tf/media/README.md.

    Args:
      path: a picture, or JSON of COCO or labelme.
      size: height and width of the frame, for JSON that does not say.

    Raises:
      feelvos_tf.core.errors.InputError: the file is no mask, or it cannot be told what belongs to
        which object.
    """
    from feelvos_tf.media import given_mask

    return given_mask.read(path, size)
