"""The visitors of the page: their limits, and the clip, objects and run of each."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page import clip_files, propagation
from feelvos_tf.demo_page.clip_files import ClipFiles
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.inference.window import downsample_mask
from feelvos_tf.media import masks, video
from feelvos_tf.media.points import Marks

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LONGEST_NAME = 40
# Text -> id. Each id has only one spelling, so that no object is named twice.
_IDS = {str(object_id): object_id for object_id in range(1, masks.VOID)}
# How often a run that waits for the network checks whether it has been stopped.
_POLL_SECONDS = 0.1


class Limits(NamedTuple):
    """Bounds on files, memory and time.

    Attributes:
      upload_bytes: size of an uploaded file.
      frames: per clip; later ones are dropped.
      side: longest side of a frame, in pixels; larger frames are scaled down.
      objects: per visitor.
      visitors: at a time.
      idle_seconds: a visitor who sends no request for this long is removed.
      silent_seconds: an upload that sends no byte for this long ends; also how long a new visitor
        has to send the cookie back for the first time.
    """

    upload_bytes: int = 200_000_000
    frames: int = 300
    side: int = 960
    objects: int = 30
    visitors: int = 8
    idle_seconds: float = 1800
    silent_seconds: float = 60


class _Stopped(Exception):
    """Raised when a run is stopped while it waits for the network."""


class _Run:
    """Progress of the current or the last run.

    Attributes:
      position: of the newest mask.
      done, total: numbers of frames.
      error: one sentence, empty if there is none.
      is_waiting: whether the network is busy with another visitor's frame.
      is_over: whether the run has ended or was stopped.
    """

    def __init__(self, position: int, total: int):
        self.position, self.done, self.total, self.error = position, 0, total, ""
        self.is_waiting = self.is_over = False
        self._first = self._newest = 0.0

    def advance(self, position: int) -> None:
        """Records that one more frame has its mask."""
        self.position, self.done = position, self.done + 1
        self._newest = time.monotonic()
        # The first frame takes longer: the references come before it.
        self._first = self._first or self._newest

    def described(self) -> dict[str, Any]:
        """Returns the progress as JSON values; `seconds_left` is None until two frames are done."""
        left = None
        if self.done > 1:
            left = (self._newest - self._first) / (self.done - 1) * (self.total - self.done)
        names = ("position", "done", "total", "error", "is_waiting")
        return {**{name: vars(self)[name] for name in names}, "seconds_left": left}


class Visitor:
    """One visitor's clip, painted frames, objects and run; visitors share only the network.

    Changes must be made one at a time, each under `changing`. `stop` and reads are allowed at any
    time; none of them waits for the network.

    Attributes:
      folder: holds all of the visitor's files.
      clip: None until one is chosen.
      clip_name: name of its file.
      objects: id -> {"name": ..., "color": "#rrggbb"}.
      given: positions of the painted frames -> the ids painted there.
      changing: held during a change.
    """

    def __init__(
        self, folder: pathlib.Path, predictor: VideoPredictor, turn: threading.Lock, limits: Limits
    ):
        """Stores what the visitor works with.

        Args:
          folder: an empty folder.
          predictor: provides the network.
          turn: held while the network is used.
          limits: on files, memory and time.
        """
        self.folder = folder
        self.clip: ClipFiles | None = None
        self.clip_name = ""
        self.objects: dict[int, dict[str, str]] = {}
        self.given: dict[int, list[int]] = {}
        self.changing = asyncio.Lock()
        self._predictor, self._turn, self._limits = predictor, turn, limits
        self._prompter = predictor.another().prompter()
        self._run: _Run | None = None
        # Held while a mask is written and while a run is stopped: a stopped run writes none.
        self._writing = threading.RLock()
        self._last_seen, self._has_returned = time.monotonic(), False

    def load(
        self, paths: Sequence[pathlib.Path], name: str, mask: np.ndarray | None = None
    ) -> None:
        """Loads a clip and removes the previous one.

        Args:
          paths: a video file, or the pictures of a clip.
          name: of the clip.
          mask: of its first frame, at the size of the file, if there is one.

        Raises:
          InputError: the file is not a usable video.
        """
        self.stop()
        folder = pathlib.Path(tempfile.mkdtemp(prefix="clip", dir=self.folder))
        try:
            if len(paths) == 1:
                clip_files.check_is_video(paths[0])
                frames = video.VideoFrames(paths[0])
            else:
                frames = video.ImageFrames(paths)
            clip = ClipFiles(folder, frames, self._limits.frames, self._limits.side)
        except BaseException:
            shutil.rmtree(folder)
            raise
        if self.clip is not None:
            shutil.rmtree(self.clip.folder)
        self.clip, self.objects, self.given, self._run = clip, {}, {}, None
        self.clip_name = _printable(name) or "clip"
        if mask is not None:
            self.paint(0, downsample_mask(mask, clip.size))

    def described(self) -> dict[str, Any]:
        """Returns everything the page shows except pictures, as JSON values."""
        clip, run = self.clip, self._run
        if clip is None:
            return {"clip": None}
        return {
            "clip": {
                "frames": clip.count,
                "height": clip.size[0],
                "width": clip.size[1],
                "rate": clip.frames_per_second,
                "name": self.clip_name,
                "cut": clip.is_cut,
                # No other clip has this key, not even one of a later visitor or server.
                "key": "/".join(clip.folder.parts[-2:]),
            },
            "masked": clip.masked(),
            "given": sorted(self.given),
            "objects": self.objects,
            "running": self.is_running(),
            "run": run.described() if run else {},
        }

    def sentence(self, error: Exception) -> str:
        """Returns the message of an error without the server's paths."""
        path = rf"{re.escape(str(self.folder))}[^\s:'\")]*"
        return re.sub(path, "the file", re.sub(rf"{path}: ", "", str(error)))

    def name_objects(self, objects: Any) -> None:
        """Sets the names and colors of the objects.

        Args:
          objects: id as text -> {"name": ..., "color": "#rrggbb"}.

        Raises:
          InputError: `objects` has another form, or there are too many.
        """
        try:
            named = {
                _IDS[key]: {"name": _printable(each["name"]), "color": each["color"]}
                for key, each in objects.items()
            }
            is_valid = all(_COLOR.fullmatch(each["color"]) for each in named.values())
        except (AttributeError, KeyError, TypeError):
            is_valid = False
        if not is_valid:
            raise InputError(
                "expected objects with ids 1 to 254, each with a name and a color like #ff8000"
            )
        self._check_number(len(named))
        self.objects = named

    def remove_object(self, object_id: int) -> None:
        """Removes an object from the list and from all masks; masks left empty are removed.

        Raises:
          InputError: the id is not that of an object, or a run is in progress.
        """
        if object_id not in _IDS.values():
            raise InputError(f"expected an object's id, 1 to {len(_IDS)}, found {object_id}")
        self.check_idle()
        self.objects = {key: each for key, each in self.objects.items() if key != object_id}
        for position in self.clip.masked():
            mask = self.clip.mask(position)
            if object_id not in mask:
                continue
            rest = np.where(mask == object_id, np.uint8(0), mask)
            if rest.any():
                self.paint(position, rest, is_given=position in self.given)
            else:
                self.forget(position)

    def paint(self, position: int, mask: np.ndarray, is_given: bool = True) -> None:
        """Stores a mask.

        Args:
          position: of its frame.
          mask: uint8 [height, width] ids.
          is_given: whether the visitor vouches for it: runs end there and may start there.
            Otherwise, it counts as the result of a run.

        A run in progress continues, but does not overwrite a painted frame.

        Raises:
          InputError: there are too many objects.
        """
        given = {key: ids for key, ids in self.given.items() if key != position}
        if is_given:
            given[position] = masks.object_ids(mask)
        self._check_number(len(set().union(*given.values())))
        with self._writing:
            self.clip.write_mask(position, mask)
            self.given = given

    def _check_number(self, num_objects: int) -> None:
        if num_objects > self._limits.objects:
            raise InputError(
                f"expected at most {self._limits.objects} objects, found {num_objects}"
            )

    def prepare(self, position: int) -> None:
        """Runs the network on a frame in advance, so that its first mark is answered sooner."""
        with self._turn:
            self._prompter.prepare(self.clip.image(position))

    def prompt(self, position: int, marks: Marks, corrects: bool) -> None:
        """Stores the mask of an object that the network derives from clicks or a box.

        Other objects keep their pixels.

        Args:
          position: of the frame.
          marks: on the object.
          corrects: whether they correct the frame's mask; otherwise, that mask is ignored.

        Raises:
          InputError: there are too many objects.
        """
        with self._turn:
            image = self.clip.image(position)
            mask = self.clip.mask(position) == marks.object_id if corrects else None
            found = self._prompter(image, marks.points, marks.labels, marks.box, mask)
        with self._writing:
            ids = self.clip.mask(position)  # A run may have stored another mask meanwhile.
            rest = np.where(ids == marks.object_id, np.uint8(0), ids)
            is_new = (found == 1) & (rest == 0)
            self.paint(position, np.where(is_new, np.uint8(marks.object_id), rest))

    def forget(self, position: int) -> None:
        """Removes the mask of a frame."""
        self.clip.mask_path(position).unlink(missing_ok=True)
        self.given = {key: ids for key, ids in self.given.items() if key != position}

    def begin(self, position: int, direction: str) -> None:
        """Starts propagating the mask of a frame, which counts as painted from now on.

        Raises:
          InputError: a run is in progress, or the mask is missing or empty.
        """
        self.check_idle()
        if direction not in propagation.DIRECTIONS:
            raise InputError(f"expected one of {', '.join(propagation.DIRECTIONS)}")
        mask = self.clip.mask(position)
        if not mask.any():
            raise InputError("paint an object first: this frame shows none")
        self.given = {**self.given, position: masks.object_ids(mask)}
        ahead = propagation.frames_to_propagate(position, self.given, self.clip.count, direction)
        self._run = _Run(position, sum(map(len, ahead)))
        work = (self._run, self.clip, sorted(self.given), direction)
        threading.Thread(target=self._work, args=work, daemon=True, name="propagation").start()

    def _work(self, run: _Run, clip: ClipFiles, given: list[int], direction: str) -> None:
        results = propagation.propagate(
            self._predictor.another(),
            clip,
            given,
            run.position,
            direction,
            lambda: self._using_the_network(run),
        )
        try:
            for position, ids in results:
                with self._writing:
                    if run.is_over:
                        return
                    if position not in self.given:  # Otherwise, it was painted meanwhile.
                        clip.write_mask(position, ids)
                    run.advance(position)
        except _Stopped:
            pass
        except Exception as error:
            if run.is_over:  # The files may have been removed.
                return
            run.error = "the run failed; the server's log says why"
            if not isinstance(error, InputError):
                raise
            run.error = self.sentence(error)
        finally:
            run.is_over = True

    @contextlib.contextmanager
    def _using_the_network(self, run: _Run) -> Iterator[None]:
        """Waits for the network and holds it; raises _Stopped if the run is over."""
        while not self._turn.acquire(timeout=_POLL_SECONDS):
            run.is_waiting = True
            if run.is_over:
                raise _Stopped
        run.is_waiting = False
        try:
            if run.is_over:
                raise _Stopped
            yield
        finally:
            self._turn.release()

    def is_running(self) -> bool:
        """Returns whether a run is in progress."""
        return self._run is not None and not self._run.is_over

    def check_idle(self) -> None:
        """Raises InputError if a run is in progress."""
        if self.is_running():
            raise InputError("a run is in progress: stop it first")

    def stop(self) -> None:
        """Stops a run at once; the frame in the network is discarded."""
        with self._writing:
            if self._run is not None:
                self._run.is_over = True

    def close(self) -> None:
        """Stops a run and removes all files."""
        self.stop()
        self.clip = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def touch(self, has_returned: bool = False) -> None:
        """Records activity.

        Args:
          has_returned: whether the visitor has sent the cookie back.
        """
        self._last_seen = time.monotonic()
        self._has_returned |= has_returned

    def is_idle(self) -> bool:
        """Returns whether the visitor has been inactive for too long."""
        limits = self._limits
        seconds = limits.idle_seconds if self._has_returned else limits.silent_seconds
        is_busy = self.changing.locked() or self.is_running()
        return not is_busy and time.monotonic() - self._last_seen > seconds


def _printable(name: str) -> str:
    """Returns a name shortened and without characters that would break files and headers."""
    # A browser that cuts a name off inside an emoji sends half of a surrogate pair.
    name = name[:_LONGEST_NAME].encode(errors="ignore").decode()
    return "".join(filter(str.isprintable, name))


class Visitors:
    """All visitors by their unguessable keys; used only on the event loop's thread.

    Attributes:
      limits: on each visitor and on their number.
    """

    def __init__(self, predictor: VideoPredictor, limits: Limits):
        self.limits = limits
        self._predictor, self._turn = predictor, threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="feelvos_demo_")
        self._by_key: dict[str, Visitor] = {}

    def find(self, key: str | None) -> Visitor | None:
        """Returns the visitor of a key; None if there is none, or no longer one."""
        visitor = self._by_key.get(key)
        if visitor is not None:
            visitor.touch(has_returned=True)
        return visitor

    async def add(self) -> tuple[str, Visitor]:
        """Adds a visitor; returns the key and the visitor.

        Raises:
          InputError: there are too many visitors.
        """
        await self.remove_idle()
        if len(self._by_key) >= self.limits.visitors:
            raise InputError(f"there are {self.limits.visitors} visitors already: try again later")
        key = secrets.token_urlsafe(24)
        folder = pathlib.Path(self._folder.name) / secrets.token_hex(8)
        folder.mkdir()
        self._by_key[key] = Visitor(folder, self._predictor, self._turn, self.limits)
        return key, self._by_key[key]

    async def remove(self, key: str | None) -> None:
        """Removes a visitor and their files without making others wait."""
        visitor = self._by_key.pop(key, None)
        if visitor is not None:
            visitor.stop()
            async with visitor.changing:
                await asyncio.to_thread(visitor.close)

    async def remove_idle(self) -> None:
        """Removes the visitors who have been inactive for too long."""
        for key in [key for key, visitor in self._by_key.items() if visitor.is_idle()]:
            await self.remove(key)

    def close(self) -> None:
        """Removes all visitors."""
        for visitor in self._by_key.values():
            visitor.close()
        self._folder.cleanup()
