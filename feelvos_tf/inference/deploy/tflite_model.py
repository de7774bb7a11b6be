"""A predictor as a TFLite file: frames of one size, a fixed number of objects.

TFLite has no operations for tensors that grow, so all sizes are fixed: the frames' size, the number
of objects, and the number of reference pixels per object. The mask holds 0 for the background and
1, 2, ... for the objects, each at least once.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import state as video_state
from feelvos_tf.inference.state import PredictorState, ScaleState
from feelvos_tf.models import object_labels
from feelvos_tf.models.feelvos import Previous
from feelvos_tf.models.global_matching import Reference

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor

PRECISIONS = ("float32", "float16", "int8")


class FixedPredictor(tf.Module):
    """`start` and `step` of a predictor for fixed sizes, with the state as named tensors."""

    def __init__(
        self, predictor: Predictor, size: tuple[int, int], num_objects: int, reference_pixels: int
    ):
        """Traces both functions.

        Args:
          predictor: with one scale and without `flip`.
          size: height and width of the frames.
          num_objects: number of objects, including the background.
          reference_pixels: number of reference pixels per object.

        Raises:
          InputError: the predictor has several scales or flips frames.
        """
        super().__init__()
        if predictor.scales != (1.0,) or predictor.flip:
            raise InputError(
                "TFLite: expected a model with Predictor.scales = (1.0,), without Predictor.flip"
            )
        self._predictor = predictor
        self._num_objects, self._reference_pixels = num_objects, reference_pixels
        image = tf.TensorSpec([*size, 3], tf.uint8, "image")
        mask = tf.TensorSpec(size, tf.uint8, "mask")
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
        _, embeddings = self._predictor.features.python_function(image)
        grid = embeddings.shape[:2]
        object_ids = tf.range(self._num_objects)
        full = object_labels.to_indices(mask, object_ids)
        indices = object_labels.downsample(full, object_ids, tf.constant(grid.as_list()))
        indices = tf.ensure_shape(indices, grid)
        reference = self._reference(embeddings, indices)
        masks = object_labels.one_hot(indices, self._num_objects)
        scale = ScaleState(reference, Previous(embeddings, indices, masks))
        return video_state.to_flat(PredictorState(object_ids, tf.constant(True), (scale,)))

    def _reference(self, embeddings: tf.Tensor, indices: tf.Tensor) -> Reference:
        """Returns `reference_pixels` pixels of each object, evenly spaced in reading order.

        Those of smaller objects are repeated, which changes no nearest neighbor.
        """
        pixels, count = embeddings.shape[0] * embeddings.shape[1], self._reference_pixels
        flat, labels = tf.reshape(embeddings, [pixels, -1]), tf.reshape(indices, [pixels])
        chosen = []
        for i in range(self._num_objects):
            own_first = tf.argsort(tf.cast(labels != i, tf.int32), stable=True)
            size = tf.reduce_sum(tf.cast(labels == i, tf.int32))
            spread, repeated = tf.range(count) * size // count, tf.range(count) % size
            chosen.append(tf.gather(own_first, tf.where(size > count, spread, repeated)))
        offsets = tf.range(self._num_objects + 1) * count
        return Reference(tf.gather(flat, tf.concat(chosen, 0)), offsets)

    def _step(self, image: tf.Tensor, **state: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `ids`, `probabilities` and the state; see `Predictor.step`."""
        ids, probabilities, after = self._predictor.step.python_function(image, state)
        return {"ids": ids, "probabilities": probabilities, **after}


def convert(
    predictor: Predictor,
    size: tuple[int, int],
    num_objects: int,
    precision: str = "float32",
    reference_pixels: int = 512,
) -> bytes:
    """Returns the content of a .tflite file with the signatures `start` and `step`.

    Some operations of matching (lists of tensors in loops) remain TensorFlow operations, so the
    interpreter needs the Flex delegate, which is part of the TensorFlow package.

    Args:
      predictor, size, num_objects, reference_pixels: see `FixedPredictor`.
      precision: of the weights, one of `PRECISIONS`. Activations stay float32: with calibrated
        8-bit activations a file is written, but TensorFlow 2.15's interpreter aborts on it.

    Raises:
      InputError: a setting is out of range.
    """
    if precision not in PRECISIONS:
        raise InputError(f"TFLite: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    module = FixedPredictor(predictor, size, num_objects, reference_pixels)
    with tempfile.TemporaryDirectory() as folder:
        # The converter accepts several signatures only from a SavedModel.
        signatures = {"start": module.start, "step": module.step}
        tf.saved_model.save(module, folder, signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, list(signatures))
        ops = tf.lite.OpsSet
        converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS, ops.SELECT_TF_OPS]
        converter._experimental_lower_tensor_list_ops = False
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
