"""Writes the masks of baselines without learning, in the format of feelvos_tf.predict.

    python tools/predict_baseline.py --baseline=optical_flow --dataset_root=DIR --year=2017 \\
        --split=val --output_dir=OUT

`first_mask` repeats the given mask; `optical_flow` warps the previous mask by dense optical flow
(Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016; OpenCV's DIS).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from feelvos_tf.core import cli
from feelvos_tf.core.constants import VOID
from feelvos_tf.inference import command_line

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_BASELINE = _DEFINE.enum(
    "baseline", "Method of prediction.", enum_values=["first_mask", "optical_flow"], required=True
)
_COMMAND_LINE = command_line.CommandLine(_FLAGS)


class OpticalFlow:
    """Warps the previous mask along the optical flow.

    A `Propagator`, see `feelvos_tf/inference/propagation.py`. It keeps one soft mask per object, so
    that small movements add up instead of being rounded away.
    """

    def __init__(self):
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._flow.setFinestScale(0)

    def another(self) -> OpticalFlow:
        return type(self)()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._previous, self._ids = state["previous"], state["ids"]
        self._planes = list(state["planes"])

    def start(self, image: np.ndarray, mask: np.ndarray) -> None:
        self._previous = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        self._ids = np.unique(mask[mask != VOID])
        self._planes = [(mask == value).astype(np.float32) for value in self._ids]

    @property
    def object_ids(self) -> np.ndarray:
        """The ids that are tracked."""
        return self._ids

    def step(self, image: np.ndarray) -> np.ndarray:
        """Returns the ids of the next frame, uint8 [height, width]."""
        current = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        # Backward flow, from the current frame: every pixel finds where it came from.
        flow = self._flow.calc(current, self._previous, None)
        rows, columns = np.indices(current.shape, np.float32)
        source = columns + flow[..., 0], rows + flow[..., 1]
        self._planes = [
            cv2.remap(plane, *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for plane in self._planes
        ]
        self._previous = current
        return self._ids[np.argmax(self._planes, axis=0)]

    def correct(self, mask: np.ndarray, background: bool = False) -> None:
        """Replaces the marked pixels of the previous frame's soft masks."""
        marked = (mask != VOID) & ((mask != 0) | background)
        new_ids = np.setdiff1d(mask[marked], self._ids)
        planes = [*self._planes, *(np.zeros(mask.shape, np.float32) for _ in new_ids)]
        self._ids = np.concatenate([self._ids, new_ids])
        # Snapshots keep the old ones.
        self._planes = [
            np.where(marked, mask == value, plane) for value, plane in zip(self._ids, planes)
        ]

    # New objects replace others where their masks overlap.
    add_objects = correct

    def snapshot(self) -> Callable[[], dict[str, np.ndarray]]:
        """Returns a function that returns the current state."""
        previous, ids, planes = self._previous, self._ids, self._planes
        return lambda: {"previous": previous, "ids": ids, "planes": np.stack(planes)}


class FirstMask(OpticalFlow):
    """Repeats the first mask."""

    def step(self, image: np.ndarray) -> np.ndarray:
        """Returns the first mask, uint8 [height, width]; void is background."""
        del image
        return self._ids[np.argmax(self._planes, axis=0)]


BASELINES = {"first_mask": FirstMask, "optical_flow": OpticalFlow}


def main() -> None:
    """Propagates masks through the selected videos."""
    if not _COMMAND_LINE.write_first_frame():
        _COMMAND_LINE.run(BASELINES[_BASELINE.value], {"baseline": _BASELINE.value})


if __name__ == "__main__":
    cli.run(main)
