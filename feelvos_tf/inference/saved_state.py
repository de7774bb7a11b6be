"""The state of a video as NumPy arrays: copied, checked, and turned back into tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.window import SEEN, Seen

if TYPE_CHECKING:
    import tensorflow as tf

_FRAME_SIZE, _INFERENCE_SIZE, _MODEL = "frame_size", "inference_size", "model"
_WINDOW = "window_share"
# Entries that `pack` adds -> dtype kind and shape.
_OWN = {
    _FRAME_SIZE: ("i", (2,)),
    _INFERENCE_SIZE: ("i", ()),
    _MODEL: ("U", ()),
    _WINDOW: ("f", ()),
}


def pack(
    state: Mapping[str, tf.Tensor],
    frame_size: tuple[int, int],
    inference_size: int | None,
    identity: str,
    seen: Seen,
    window: float,
) -> dict[str, np.ndarray]:
    """Returns a copy of a flat state plus the model and sizes it belongs to.

    Args:
      state: see `feelvos_tf/inference/state.py`.
      frame_size: height and width of the video.
      inference_size: size at which the model ran; None for the frames' own.
      identity: of the model.
      seen: of the last frame.
      window: share of a frame that the model processes; 0 for whole frames.
    """
    arrays = {name: np.array(value) for name, value in state.items()}
    return {
        **arrays,
        _FRAME_SIZE: np.array(frame_size, np.int32),
        _INFERENCE_SIZE: np.array(inference_size or 0, np.int32),
        _MODEL: np.array(identity),
        _WINDOW: np.array(window, np.float32),
        **(seen.arrays() if window else {}),
    }


def unpack(
    packed: Mapping[str, np.ndarray],
    model: Any,
    frame_size: tuple[int, int] | None,
    inference_size: int | None,
    identity: str,
    window: float,
) -> tuple[dict[str, tf.Tensor], tuple[int, int]]:
    """Returns the flat state as copied tensors, and the frames' height and width.

    Args:
      packed: from `pack`, possibly read from a file.
      model: the model whose `step` will take the state.
      frame_size: of the video in progress; None if there is none.
      inference_size: size at which the model runs.
      identity: of the model.
      window: share of a frame that the model processes.

    Raises:
      InputError: the state belongs to another model or size, or is damaged.
    """
    missing = [name for name in _OWN if name not in packed]
    if missing:
        raise InputError(f"restore: expected what state() returns, found no {missing[0]}")
    for name, expected in _OWN.items():
        array = np.asarray(packed[name])
        if (array.dtype.kind, array.shape) != expected:
            raise InputError(
                f"restore: expected what state() returns, found a wrong {name}: {array.dtype} "
                f"{list(array.shape)}"
            )
    if str(packed[_MODEL]) != identity:
        raise InputError(
            f"restore: expected a state of this model ({identity or 'unnamed'}), found one of "
            f"another ({packed[_MODEL]})"
        )
    found = int(packed[_INFERENCE_SIZE])
    if found != (inference_size or 0):
        raise InputError(
            f"restore: expected a state at inference size {_named(inference_size)}, found one at "
            f"{_named(found)}"
        )
    if packed[_WINDOW] != np.float32(window):
        raise InputError(
            f"restore: expected a state with windows of {window:g} of a frame, found one with "
            f"{packed[_WINDOW]:g}"
        )
    size = tuple(int(value) for value in packed[_FRAME_SIZE])
    if frame_size not in (None, size):
        raise InputError(
            f"restore: expected a state of frames of the size {list(frame_size)} of the video in "
            f"progress, found {list(size)} (another() returns a predictor for that)"
        )
    own = {name: array for name, array in packed.items() if name not in SEEN}
    return _tensors(own, _specs(model)), size


def _named(inference_size: int | None) -> str:
    return str(inference_size) if inference_size else "of the frames"


def _specs(model: Any) -> dict[str, tf.TensorSpec]:
    """Returns the specs of the entries of a flat state by name."""
    if getattr(model.step, "input_signature", None) is not None:
        return model.step.input_signature[1]
    (function,) = model.step.concrete_functions  # A SavedModel has one.
    return function.structured_input_signature[0][1]


def _tensors(
    packed: Mapping[str, np.ndarray], specs: Mapping[str, tf.TensorSpec]
) -> dict[str, tf.Tensor]:
    """Returns the arrays as tensors; raises InputError unless they match `specs`."""
    own = set(packed) - set(_OWN)
    if own != set(specs):
        raise InputError(
            f"restore: expected a state with {', '.join(specs)}, found one with "
            f"{', '.join(sorted(own))}"
        )
    import tensorflow as tf  # Here, so that a wrong flag is reported without seconds of waiting.

    tensors = {}
    for name, spec in specs.items():
        array = np.asarray(packed[name])
        if array.dtype != spec.dtype.as_numpy_dtype or not spec.shape.is_compatible_with(
            array.shape
        ):
            raise InputError(
                f"restore: expected {name} of {spec.dtype.name} {spec.shape}, found {array.dtype} "
                f"{list(array.shape)}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"restore: expected finite numbers in {name}, found NaN or infinity")
        # A copy even if TensorFlow would use the array's own memory.
        tensors[name] = tf.constant(np.array(array))
    _check_fit({name: tensor.numpy() for name, tensor in tensors.items()})
    return tensors


def _check_fit(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises InputError unless the arrays describe the same objects and pixels.

    TensorFlow would report a mismatch only inside the network, or not at all.
    """
    ids = arrays["object_ids"].tolist()
    # Not every video has a background, id 0.
    is_right = {
        "object_ids": bool(ids) and ids == sorted({*ids}) and ids[0] >= 0 and ids[-1] < VOID
    }
    for name, offsets in arrays.items():
        kind, found, scale = name.partition("_offsets")
        if found:
            pixels = len(arrays[f"{kind}_embeddings{scale}"])
            is_right[name] = (
                len(offsets) == len(ids) + 1
                and (offsets[0], offsets[-1]) == (0, pixels)
                and (np.diff(offsets) >= 0).all()
            )
        if kind == "reference" and found:
            grid = arrays[f"previous_embeddings{scale}"].shape[:2]
            indices = arrays[f"previous_indices{scale}"]
            is_right |= {
                f"previous_indices{scale}": indices.shape == grid
                and ((indices >= -1) & (indices < len(ids))).all(),
                f"previous_masks{scale}": arrays[f"previous_masks{scale}"].shape
                == (len(ids), *grid),
            }
    wrong = [name for name, right in is_right.items() if not right]
    if wrong:
        raise InputError(f"restore: expected matching entries, found a mismatch in {wrong[0]}")
