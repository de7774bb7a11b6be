"""What one visitor of the page has: a clip, painted frames, objects, and a run in progress."""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil
import threading
import time
from typing import Any

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page import clip_files, propagation
from feelvos_tf.demo_page.clip_files import ClipFiles
from feelvos_tf.demo_page.limits import Limits
from feelvos_tf.inference.numpy_predictor import NumpyPredictor
from feelvos_tf.media import video

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LONGEST_NAME, _MOST_OBJECTS = 40, 30


class Visitor:
    """One visitor's work; nothing of it is shared with others but the network.

    Attributes:
      folder: of all files, removed by `close`.
      clip: None as long as none was chosen.
      objects: id -> {"name": ..., "color": "#rrggbb"}.
      given: positions of the frames that were painted or corrected.
      last_seen: `time.monotonic()` of the last request.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        predictor: NumpyPredictor,
        turn: contextlib.AbstractContextManager,
        limits: Limits,
    ):
        """Stores what the visitor works with.

        Args:
          folder: new and empty.
          predictor: whose network is used.
          turn: a lock, held while the network runs.
          limits: of the clip.
        """
        self.folder = folder
        self.clip: ClipFiles | None = None
        self.objects: dict[int, dict[str, str]] = {}
        self.given: set[int] = set()
        self.last_seen = time.monotonic()
        self._predictor, self._turn, self._limits = predictor, turn, limits
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._run: dict[str, Any] = {}
        self._loads = 0

    def load(self, path: pathlib.Path, mask: np.ndarray | None = None) -> None:
        """Takes another clip; the one before is removed.

        Args:
          path: of a video file.
          mask: of its first frame, if there is one.

        Raises:
          InputError: it is no video, or one that cannot be used.
        """
        self.stop()
        self._loads += 1
        folder = self.folder / f"clip{self._loads}"
        folder.mkdir()
        try:
            clip_files.check_is_video(path)
            frames = video.VideoFrames(path)
            clip = ClipFiles(folder, frames, frames.frames_per_second, self._limits)
        except BaseException:
            shutil.rmtree(folder)
            raise
        if self.clip is not None:
            shutil.rmtree(self.clip.folder)
        self.clip, self.objects, self.given, self._run = clip, {}, set(), {}
        if mask is not None:
            self.paint(0, mask)

    def described(self) -> dict[str, Any]:
        """Returns all that the page shows beside pictures, for JSON."""
        if self.clip is None:
            return {"clip": None}
        clip = self.clip
        return {
            "clip": {
                "frames": clip.count,
                "height": clip.size[0],
                "width": clip.size[1],
                "rate": clip.frames_per_second,
                "cut": clip.is_cut,
                "key": self._loads,
            },
            "masked": clip.masked(),
            "given": sorted(self.given),
            "objects": self.objects,
            "running": self.is_running(),
            "run": self._run,
        }

    def name_objects(self, objects: Any) -> None:
        """Takes names and colors of the objects.

        Args:
          objects: id as text -> {"name": ..., "color": "#rrggbb"}.

        Raises:
          InputError: it is nothing of that form.
        """
        try:
            named = {int(key): (str(o["name"]), str(o["color"])) for key, o in objects.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError("expected objects with names and colors") from error
        if len(named) > _MOST_OBJECTS or not all(0 < key < 255 for key in named):
            raise InputError(f"expected at most {_MOST_OBJECTS} objects with ids 1 to 254")
        if not all(_COLOR.fullmatch(color) for _, color in named.values()):
            raise InputError("expected colors like #ff8000")
        self.objects = {
            key: {"name": name[:_LONGEST_NAME], "color": color}
            for key, (name, color) in named.items()
        }

    def paint(self, position: int, mask: np.ndarray) -> None:
        """Takes a painted mask, from which the next run may begin."""
        self.check_idle()
        self.clip.write_mask(position, mask)
        self.given.add(position)

    def forget(self, position: int) -> None:
        """Removes the mask of a frame."""
        self.check_idle()
        self.clip.mask_path(position).unlink(missing_ok=True)
        self.given.discard(position)

    def begin(self, position: int, direction: str) -> None:
        """Begins to follow the objects from a frame, whose mask counts as painted from now on.

        Raises:
          InputError: a run is in progress, or there is no mask.
        """
        self.check_idle()
        if direction not in propagation.DIRECTIONS:
            raise InputError(f"expected one of {', '.join(propagation.DIRECTIONS)}")
        if not self.clip.mask(position).any():
            raise InputError("paint an object first: this frame shows none")
        self.given.add(position)
        ahead = propagation.frames_to_segment(position, self.given, self.clip.count, direction)
        self._run = {"position": position, "done": 0, "total": sum(map(len, ahead)), "error": ""}
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._work, args=(position, direction), daemon=True, name="propagation"
        )
        self._thread.start()

    def _work(self, position: int, direction: str) -> None:
        try:
            propagation.propagate(
                self._predictor.another(),
                self.clip,
                set(self.given),
                position,
                direction,
                self._on_frame,
                self._turn,
            )
        except InputError as error:
            self._run["error"] = str(error)
        except Exception:
            self._run["error"] = "the run failed; the server's log says why"
            raise

    def _on_frame(self, position: int) -> bool:
        self._run.update(position=position, done=self._run["done"] + 1)
        return not self._stop.is_set()

    def is_running(self) -> bool:
        """Returns whether objects are being followed."""
        return self._thread is not None and self._thread.is_alive()

    def check_idle(self) -> None:
        """Raises InputError while objects are being followed, or without a clip."""
        if self.clip is None:
            raise InputError("choose a clip first")
        if self.is_running():
            raise InputError("a run is in progress: stop it first")

    def stop(self) -> None:
        """Ends a run after the frame that it is at."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Ends a run and removes all files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
