"""The state of a video as NumPy arrays: copied, checked, and taken apart again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import window as windows
from feelvos_tf.inference.window import Seen, Window

# Type and shape of each entry; None stands for any length.
_Specs = dict[str, tuple[type, tuple[Union[int, None], ...]]]
# What `pack` adds to the network's state.
_OWN: _Specs = {
    "frame_size": (np.int32, (2,)),
    "inference_size": (np.int32, ()),  # 0 for the frames' own.
    "model": (np.str_, ()),
    "window_share": (np.float32, ()),
}
# What it also adds if there is a window.
_SEEN: _Specs = {
    "seen_window": (np.int32, (6,)),
    "seen_image": (np.uint8, (None, None, 3)),
    "seen_ids": (np.uint8, (None, None)),
    "seen_box_ids": (np.int32, (None,)),
    "seen_boxes": (np.float32, (None, 4)),
}


def pack(
    state: Mapping[str, Any],
    seen: Seen,
    inference_size: int | None,
    identity: str,
    window: float,
) -> dict[str, np.ndarray]:
    """Returns a copy of a flat state plus the model and sizes it belongs to.

    Args:
      state: see `feelvos_tf/inference/state.py`.
      seen: of the last frame.
      inference_size: size at which the model ran; None for the frames' own.
      identity: of the model.
      window: share of a frame that the model processes; 0 for whole frames.
    """
    packed = {
        **state,
        "frame_size": np.int32(seen.window.frame_size),
        "inference_size": np.int32(inference_size or 0),
        "model": identity,
        "window_share": np.float32(window),
    }
    if window:
        packed |= {
            "seen_window": np.int32([*seen.window.scaled_size, *seen.window.box]),
            "seen_image": seen.image,
            "seen_ids": seen.ids,
            "seen_box_ids": np.int32(list(seen.boxes)),
            "seen_boxes": np.float32(list(seen.boxes.values())).reshape(-1, 4),
        }
    return {name: np.array(value) for name, value in packed.items()}


def unpack(
    packed: Mapping[str, np.ndarray],
    model: Any,
    in_progress: Seen | None,
    inference_size: int | None,
    identity: str,
    window: float,
) -> tuple[dict[str, np.ndarray], Seen]:
    """Returns copies of the flat state and of what was seen last.

    Args:
      packed: from `pack`, possibly read from a file.
      model: the model whose `step` will take the state.
      in_progress: what was last seen of the video in progress; None if there is none.
      inference_size, identity, window: see `pack`.

    Raises:
      InputError: the state belongs to another model or size, or is damaged.
    """
    packed = {name: np.array(packed[name]) for name in packed}
    _check_entries(packed, _OWN)
    size = tuple(packed["frame_size"].tolist())
    expected_size = size if in_progress is None else in_progress.window.frame_size
    for name, expected, found in (
        ("model", identity, str(packed["model"])),
        ("inference_size", inference_size, int(packed["inference_size"]) or None),
        ("window", np.float32(window), packed["window_share"]),
        (
            "frames of the size of the video in progress (another() takes others),",
            expected_size,
            size,
        ),
    ):
        if expected != found:
            raise InputError(f"restore: expected a state with {name} {expected}, found {found}")
    specs = _specs(model)
    entries = {**specs, **(_SEEN if window else {})}
    _check_entries(packed, entries)
    more = sorted(packed.keys() - entries.keys() - _OWN.keys())
    if more:
        raise InputError(f"restore: expected what state() returns, found a further {more[0]}")
    seen = _seen(packed, size) if window else Seen(windows.whole(size, inference_size))
    _check_fit(packed, seen)
    return {name: packed[name] for name in specs}, seen


def _seen(packed: Mapping[str, np.ndarray], frame_size: tuple[int, int]) -> Seen:
    """Returns what was last seen of the video through a window."""
    height, width, *box = packed["seen_window"].tolist()
    boxes = zip(packed["seen_box_ids"].tolist(), map(tuple, packed["seen_boxes"].tolist()))
    last = Window(frame_size, (height, width), tuple(box))
    return Seen(last, packed["seen_image"], packed["seen_ids"], dict(boxes))


def _specs(model: Any) -> _Specs:
    """Returns the specs of the model's own state."""
    specs = getattr(model.step, "input_signature", None)
    if specs is None:
        (function,) = model.step.concrete_functions  # A SavedModel has one.
        specs = function.structured_input_signature[0]
    return {n: (s.dtype.as_numpy_dtype, tuple(s.shape.as_list())) for n, s in specs[1].items()}


def _check_entries(packed: Mapping[str, np.ndarray], specs: _Specs) -> None:
    """Raises InputError unless there are finite arrays of these types and shapes."""
    for name, (kind, shape) in specs.items():
        array = packed.get(name, np.array(None))
        lengths = zip(shape, array.shape)
        fits = len(shape) == array.ndim and all(want in (None, have) for want, have in lengths)
        found = f"{array.dtype} {array.shape}" if name in packed else "none"
        if fits and array.dtype.kind == "f" and not np.isfinite(array).all():
            found = "NaN or infinity"
        elif fits and np.issubdtype(array.dtype, kind):
            continue
        raise InputError(
            f"restore: expected what state() returns, with {name} of {kind.__name__} {shape}, "
            f"found {found}"
        )


def _check_fit(arrays: Mapping[str, np.ndarray], seen: Seen) -> None:
    """Raises InputError unless the arrays describe the same objects and pixels.

    TensorFlow would report a mismatch only inside the network, or not at all.
    """
    ids = arrays["object_ids"].tolist()
    # Not every video has a background, id 0.
    fits = {"object_ids": bool(ids) and ids == sorted({*ids}) and ids[0] >= 0 and ids[-1] < VOID}
    for look in windows.looks(arrays):
        grid = arrays[f"previous_embeddings{look}"].shape[:2]
        indices = arrays[f"previous_indices{look}"]
        is_index = (indices >= -1) & (indices < len(ids))
        fits[f"previous_indices{look}"] = indices.shape == grid and is_index.all()
        fits[f"previous_masks{look}"] = arrays[f"previous_masks{look}"].shape == (len(ids), *grid)
        for kind in ("reference", "memory"):
            offsets = arrays.get(f"{kind}_offsets{look}")
            if offsets is not None:
                fits[f"{kind}_offsets{look}"] = (
                    len(offsets) == len(ids) + 1
                    and (offsets[0], offsets[-1]) == (0, len(arrays[f"{kind}_embeddings{look}"]))
                    and (np.diff(offsets) >= 0).all()
                )
    if seen.ids is not None:
        size, objects = seen.window.frame_size, [value for value in ids if value]
        fits["seen_window"] = seen.window.has_grid(arrays["previous_indices"].shape)
        fits["seen_image"] = seen.image.shape[:2] == seen.ids.shape == size
        fits["seen_boxes"] = len(arrays["seen_boxes"]) == len(objects)
        fits["seen_box_ids"] = sorted(arrays["seen_box_ids"].tolist()) == objects
    wrong = [name for name, fit in fits.items() if not fit]
    if wrong:
        raise InputError(f"restore: expected matching entries, found a mismatch in {wrong[0]}")
