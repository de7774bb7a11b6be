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

    feelvos_tf/inference/README.md shows everything that the predictor can do. On a CPU with AVX2
    but without AVX512-VNNI, set TF_ENABLE_ONEDNN_OPTS=1 before importing TensorFlow 2.15: a frame
    is then a fifth faster, and the masks are those of the programs, which set it themselves. The
    first call of a version writes 33 MB to ~/.cache/feelvos_tf, so that later processes start
    faster; set FEELVOS_CACHE= to disable this.

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
      inference_size: the model runs on frames scaled to this many pixels on the short side, e.g.
        240 if speed matters. By default a SavedModel runs on the frames as they are, the bundled
        model at the size at which it scores best.
      max_total_reference_pixels: most pixels (on a grid at a quarter of the frames' resolution)
        that an object keeps of all frames in which it was marked; limits how much RAM a video can
        take up. By default the model's own setting, which is 65536 unless it was changed.
      window: share of a frame's pixels to process, around the objects; 0 for whole frames, as in
        the paper and, by default, with a SavedModel.

    Raises:
      feelvos_tf.core.errors.InputError: the model is missing or damaged.
    """
    from feelvos_tf.inference import model_loading

    return model_loading.choose(saved_model, inference_size, window).load(
        max_total_reference_pixels
    )


def read_mask(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns the object ids of a mask, uint8 [height, width]; 0 is background, 255 void.

    Reads the same files as `--mask`: masks drawn in any paint program or written by other programs;
    see feelvos_tf/media/README.md.

    Args:
      path: an image, or JSON of COCO or labelme.
      size: height and width of the frame, for JSON that does not contain them.

    Raises:
      feelvos_tf.core.errors.InputError: the file is not a mask, or it is unclear which pixels
        belong to which object.
    """
    from feelvos_tf.media import given_mask

    return given_mask.read(path, size)
