"""A predictor as a TFLite file: frames of one size, a fixed number of objects.

TFLite has no operations for what grows with a video, so everything that could is fixed: the frames'
size, the number of objects, and how many reference pixels an object has. The mask holds 0 for the
background and 1, 2, ... for the objects, each at least once.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import predictor_state
from feelvos_tf.inference.inference_size import downsample_mask, scaled
from feelvos_tf.inference.predictor_state import PredictorState, ScaleState
from feelvos_tf.media import masks, video
from feelvos_tf.models import object_labels
from feelvos_tf.models.features import Previous
from feelvos_tf.models.global_matching import Reference

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor

PRECISIONS = ("float32", "float16", "int8")
_CALIBRATION_FRAMES = 8


class Fixed(NamedTuple):
    """What the file is made for.

    Attributes:
      height: of the frames.
      width: of the frames.
      num_objects: with the background.
      reference_pixels: of every object.
    """

    height: int
    width: int
    num_objects: int = 2
    reference_pixels: int = 512


class FixedPredictor(tf.Module):
    """`start` and `step` of a predictor for `Fixed` shapes, the state as flat named tensors."""

    def __init__(self, predictor: Predictor, fixed: Fixed):
        """Traces both functions.

        Args:
          predictor: of one scale, which feeds labels back.
          fixed: the shapes.

        Raises:
          InputError: the predictor has several scales.
        """
        super().__init__()
        if predictor.scales != (1.0,):
            raise InputError("TFLite: expected a model with Predictor.scales = (1.0,)")
        self._predictor, self._fixed = predictor, fixed
        image = tf.TensorSpec([fixed.height, fixed.width, 3], tf.uint8, "image")
        mask = tf.TensorSpec([fixed.height, fixed.width], tf.uint8, "mask")
        self.start = tf.function(self._start, autograph=False).get_concrete_function(
            image=image, mask=mask
        )
        state = {
            name: tf.TensorSpec(spec.shape, spec.dtype, name)
            for name, spec in self.start.structured_outputs.items()
        }
        self.step = tf.function(self._step, autograph=False).get_concrete_function(
            image=image, **state
        )

    def _start(self, image: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the state after the first frame; see `Predictor.start`."""
        embeddings = self._predictor.embeddings(image)
        grid = embeddings.shape[:2]
        object_ids = tf.range(self._fixed.num_objects)
        indices = object_labels.downsample_reference(mask, object_ids, tf.constant(grid.as_list()))
        indices = tf.ensure_shape(indices, grid)
        reference = self._reference(embeddings, indices)
        masks = object_labels.one_hot(indices, self._fixed.num_objects)
        scale = ScaleState(reference, Previous(embeddings, indices, masks))
        return predictor_state.to_flat(PredictorState(object_ids, tf.constant(True), (scale,)))

    def _reference(self, embeddings: tf.Tensor, indices: tf.Tensor) -> Reference:
        """Returns `reference_pixels` of each object, at equal distances in reading order.

        Those of a smaller object are repeated, which changes no nearest neighbor.
        """
        pixels, count = embeddings.shape[0] * embeddings.shape[1], self._fixed.reference_pixels
        flat, labels = tf.reshape(embeddings, [pixels, -1]), tf.reshape(indices, [pixels])
        chosen = []
        for i in range(self._fixed.num_objects):
            own_first = tf.argsort(tf.cast(labels != i, tf.int32), stable=True)
            size = tf.reduce_sum(tf.cast(labels == i, tf.int32))
            spread, repeated = tf.range(count) * size // count, tf.range(count) % size
            chosen.append(tf.gather(own_first, tf.where(size > count, spread, repeated)))
        offsets = tf.range(self._fixed.num_objects + 1) * count
        return Reference(tf.gather(flat, tf.concat(chosen, 0)), offsets)

    def _step(self, image: tf.Tensor, **state: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `ids`, `probabilities` and the state; see `Predictor.step`."""
        ids, probabilities, after = self._predictor.untraced_step(image, state)
        return {"ids": ids, "probabilities": probabilities, **after}


def convert(
    predictor: Predictor,
    fixed: Fixed,
    precision: str = "float32",
    calibration: tuple[Sequence[np.ndarray], np.ndarray] | None = None,
) -> bytes:
    """Returns the content of a .tflite file with the signatures `start` and `step`.

    Some operations of the matching (lists of tensors in loops) stay TensorFlow's: an interpreter
    needs the Flex delegate, which the TensorFlow package brings.

    Args:
      predictor: to be converted.
      fixed: the shapes.
      precision: of the weights; "int8" also has activations of 8 bits where TFLite can.
      calibration: for "int8": frames uint8 `[height, width, 3]` and the mask of the first one.

    Raises:
      InputError: a setting is out of range, or int8 lacks its clip.
    """
    if precision not in PRECISIONS:
        raise InputError(f"TFLite: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    if precision == "int8" and calibration is None:
        raise InputError("TFLite: expected a calibration clip for int8, found none")
    module = FixedPredictor(predictor, fixed)
    with tempfile.TemporaryDirectory() as folder:
        # The converter takes several signatures from a SavedModel alone.
        signatures = {"start": module.start, "step": module.step}
        tf.saved_model.save(module, folder, signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, list(signatures))
        return _converted(converter, module, precision, calibration)


def read_clip(
    video_path: str, mask_path: str, size: tuple[int, int]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns frames for the calibration and the first mask, ids 0, 1, 2, ..., at `size`."""
    frames = itertools.islice(video.open_frames(video_path), _CALIBRATION_FRAMES)
    ids = masks.read_mask(mask_path)
    ids = np.where(ids == masks.VOID, 0, ids)
    mask = np.searchsorted([0, *masks.object_ids(ids)], ids).astype(np.uint8)
    return [scaled(image, size) for image in frames], downsample_mask(mask, size)


def _converted(
    converter: tf.lite.TFLiteConverter,
    module: FixedPredictor,
    precision: str,
    calibration: tuple[Sequence[np.ndarray], np.ndarray] | None,
) -> bytes:
    """Returns what the converter makes of the module; see `convert`."""
    ops = tf.lite.OpsSet
    converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS, ops.SELECT_TF_OPS]
    converter._experimental_lower_tensor_list_ops = False
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: _examples(module, *calibration)
    return converter.convert()


def _examples(
    module: FixedPredictor, images: Sequence[np.ndarray], mask: np.ndarray
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields signature and inputs of every call on a clip."""
    first = {"image": images[0], "mask": mask}
    yield "start", first
    state = module.start(**{name: tf.constant(value) for name, value in first.items()})
    for image in images[1:]:
        yield "step", {"image": image, **{name: value.numpy() for name, value in state.items()}}
        found = module.step(image=tf.constant(image), **state)
        state = {name: found[name] for name in state}
