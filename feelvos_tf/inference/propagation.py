"""Propagates masks through videos and writes them to files, decoding each frame once.

An interrupted video is resumed by the next run. Reading, the model and writing run concurrently.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from feelvos_tf.core import background, cli, whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video, prompt_files
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.video_predictor import take_mask
from feelvos_tf.media import mask_folder, masks, pictures
from feelvos_tf.media.result_files import Result, ResultFiles, VideoFacts, Write

SECONDS_BETWEEN_STATES = 20.0


class Propagator(Protocol):
    """Interface for following the objects of one video: a `VideoPredictor` or a baseline.

    The methods do what those of `VideoPredictor` do. `another` returns one for another video; the
    two share only the network. `snapshot` returns a function that returns the state as of now, to
    which `restore` returns, perhaps in another process.

    Attributes:
      object_ids: the ids that are followed; 0 is the background.
    """

    object_ids: Sequence[int]

    def another(self) -> Propagator: ...
    def start(self, image: np.ndarray, mask: np.ndarray) -> None: ...
    def step(self, image: np.ndarray) -> np.ndarray: ...
    def add_objects(self, mask: np.ndarray) -> None: ...
    def correct(self, mask: np.ndarray, background: bool = False) -> None: ...
    def snapshot(self) -> Snapshot: ...
    def restore(self, state: dict[str, np.ndarray]) -> None: ...


OnFrame = Callable[[InputVideo, int, Propagator], None]
Snapshot = Callable[[], dict[str, np.ndarray]]


class Outputs(NamedTuple):
    """Where the results of one video go.

    Attributes:
      masks: folder of the masks, which appears when the video is done.
      files: other files to write.
    """

    masks: Path
    files: tuple[ResultFiles, ...] = ()


@dataclass
class Timing:
    """Time spent, in seconds.

    Attributes:
      step_seconds: one value per frame that went through the model.
      total_seconds: total of reading, model and writing.
      waiting: time that the model waited for frames, and for results to be written.
    """

    step_seconds: list[float] = field(default_factory=list)
    total_seconds: float = 0.0
    waiting: background.Stopwatch = field(default_factory=background.Stopwatch)

    def add(self, other: Timing) -> None:
        """Adds the times of another one."""
        self.step_seconds += other.step_seconds
        self.total_seconds += other.total_seconds
        self.waiting.seconds += other.waiting.seconds

    def sentence(self) -> str:
        """Returns `70 frames in 1 min 3 s (1.11 per second): 0.80 s per frame in the network ...`.

        The median hardly depends on the first frames, which are slow because graphs are built.
        """
        count = len(self.step_seconds)
        if not count:
            return "no frame was propagated"
        share = self.waiting.seconds / max(self.waiting.seconds + sum(self.step_seconds), 1e-9)
        minutes, seconds = divmod(round(self.total_seconds), 60)
        return (
            f"{cli.count(count, 'frames')} in {f'{minutes} min ' if minutes else ''}{seconds} s "
            f"({count / max(self.total_seconds, 1e-9):.2f} per second): "
            f"{statistics.median(self.step_seconds):.2f} s per frame in the network (median), "
            f"{100 * share:.1f} % of the time waiting for reading and writing"
        )


@dataclass
class Report:
    """Results for a number of videos.

    Attributes:
      done: names of the videos that were propagated.
      complete: names of those that were already complete.
      failed: name of a video -> the error message.
      lost: name of a video that loses an object -> where each object was last seen.
      timing: of all videos.
    """

    done: list[str] = field(default_factory=list)
    complete: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)

    def add(self, other: Report) -> None:
        """Adds the results of another one."""
        self.done += other.done
        self.complete += other.complete
        self.failed.update(other.failed)
        self.lost.update(other.lost)
        self.timing.add(other.timing)


def propagate_videos(
    make_predictor: Callable[[], Propagator],
    videos: Sequence[InputVideo],
    outputs_of: Callable[[InputVideo], Outputs],
    settings: dict[str, Any],
    overwrite: bool = False,
    on_frame: Sequence[OnFrame] = (),
    on_start: Callable[[InputVideo], None] | None = None,
) -> Report:
    """Writes the results of some videos to disk and reports what happened to each.

    A video is skipped if its folder is complete and was made from the same files with the same
    settings; only other files that are missing or have changed are written. All videos are checked
    before the first is propagated. One invalid video of several does not stop the others.

    Args:
      make_predictor: called once, unless there is nothing to do.
      videos: videos to propagate masks through.
      outputs_of: returns where the results of a video go.
      settings: what the masks depend on besides the video, JSON values.
      overwrite: whether to redo complete videos.
      on_frame: each is called with every frame's video, position and predictor.
      on_start: called with every video before its first frame.

    Raises:
      InputError: a mask, a frame or a folder of the only video cannot be used.
    """
    report = Report()
    begin = time.perf_counter()

    @contextlib.contextmanager
    def noting_failure(video: InputVideo) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            if len(videos) == 1:
                raise
            report.failed[video.name] = str(error)

    todo, complete = [], []
    for video in videos:
        with noting_failure(video):
            is_todo = needs_propagation(video, outputs_of(video), settings, overwrite)
            (todo if is_todo else complete).append(video)
    predictor = make_predictor() if todo else None
    lengths = [video.frames.length for video in todo]
    total = None if None in lengths else sum(lengths)
    with _Progress(total=total, disable=not todo) as progress:
        for video in todo:
            with noting_failure(video):
                progress.set_description(video.name)
                if on_start is not None:
                    on_start(video)
                outputs = outputs_of(video)
                propagate_video(
                    predictor, video, outputs, settings, report, overwrite, on_frame, progress
                )
    report.timing.total_seconds = time.perf_counter() - begin
    for video in complete:
        with noting_failure(video):
            write_missing(video, outputs_of(video))
            report.complete.append(video.name)
    return report


def needs_propagation(
    video: InputVideo, outputs: Outputs, settings: dict[str, Any], overwrite: bool = False
) -> bool:
    """Returns whether a video still has to be propagated, after checking its inputs and outputs.

    Raises:
      InputError: a mask, the first frame or the output folder cannot be used, or a file would be
        written over one that is read.
    """
    for path in [path for files in outputs.files for path in files.paths()]:
        if whole_files.is_among(path, [*video.source.paths, *video.mask_paths]):
            raise InputError(
                f"{path}: expected a file to write, found one with frames or a mask of {video.name}"
            )
    is_earlier = not overwrite and mask_folder.is_prediction(outputs.masks)
    if is_earlier and mask_folder.is_complete(outputs.masks, _stamp(video, settings)):
        return False
    input_video.check(video)
    mask_folder.check_replaceable(outputs.masks)
    return True


def _stamp(video: InputVideo, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what the masks of a video depend on, JSON values."""
    return {**settings, "clip": video.fingerprint()}


def propagate_video(
    predictor: Propagator,
    video: InputVideo,
    outputs: Outputs,
    settings: dict[str, Any],
    report: Report,
    start_over: bool = False,
    on_frame: Sequence[OnFrame] = (),
    progress: _Progress | None = None,
) -> None:
    """Writes the results of one video: a mask per frame, named like the frame, and other files.

    Resumes an interrupted run.

    Args:
      predictor: its `another()` is used for the video.
      video: video to propagate masks through.
      outputs: where the results go.
      settings: what the masks depend on besides the video.
      report: receives what was done and the time spent.
      start_over: whether to discard an interrupted run.
      on_frame: see `propagate_videos`.
      progress: counts the frames.

    Raises:
      InputError: a frame or a folder cannot be used. The masks so far are kept.
    """
    stamp = _stamp(video, settings)
    predictor = predictor.another()
    start_over = start_over or bool(on_frame)
    with contextlib.ExitStack() as stack:
        if not outputs.masks.exists():
            # Other files in the folder create it; a run that fails would leave it empty.
            stack.callback(_remove_if_empty, outputs.masks)
        # Entered first, so that the other files are closed after the masks and are not older.
        write_files = stack.enter_context(_writing(outputs.files, video, outputs.masks))
        folder = stack.enter_context(mask_folder.replacing(outputs.masks, stamp, start_over))
        earlier = _restored(predictor, video, folder)
        output = _Output(video, folder, write_files, progress)
        try:
            with (
                contextlib.closing(
                    propagated(predictor, video, report.timing, on_frame, earlier)
                ) as results,
                background.Background(report.timing.waiting) as worker,
            ):
                for result, snapshot in results:
                    worker.submit(output.write, result, snapshot)
        except BaseException as error:
            kept = output.save_state()
            if isinstance(error, InputError) and kept:
                raise InputError(f"{error}; the {kept} masks before it are in {folder}") from error
            raise
        _remove_unasked(video, folder)
    report.done.append(video.name)
    lost = output.lost()
    if lost:
        report.lost[video.name] = lost


def propagated(
    predictor: Propagator,
    video: InputVideo,
    timing: Timing,
    on_frame: Sequence[OnFrame] = (),
    earlier: Sequence[Path] = (),
) -> Iterator[tuple[Result, Snapshot | None]]:
    """Yields every frame with its object ids; those of the first frame are the given mask.

    A mask given for a later frame adds its new objects and corrects known ones. The first
    frames have the ids in the `earlier` masks, in whose state `predictor` must be. The second value
    returns the state after the frame; it is None for those first frames.
    """
    mask = video.first_mask()
    position = -1
    # Kept in a variable: otherwise it would be closed, and wait for its thread, before the source
    # is stopped.
    frames = background.prefetched(video.frames, timing.waiting)
    try:
        for position, frame in enumerate(frames):
            name = video.frames.name(position)
            pictures.check_same_size(
                f"{video.name}: frame {name}", frame.image.shape, mask.shape, "the first one"
            )
            if position < len(earlier):
                ids, snapshot = masks.read_annotation(earlier[position]), None
            else:
                ids = _ids_of(predictor, video, position, frame.image, timing)
                for function in on_frame:
                    function(video, position, predictor)
                snapshot = predictor.snapshot()
            yield Result(name, frame.time, frame.image, ids), snapshot
    finally:
        if video.source.is_live:
            # Otherwise the reading thread would wait for the next frame, which may never come.
            video.source.stop()
    try:
        input_video.check_used(video, position + 1)
    except InputError as error:
        if not video.source.is_live:
            raise
        print(f"warning: {error}", file=sys.stderr)  # Nobody could know where it would end.


def _ids_of(
    predictor: Propagator, video: InputVideo, position: int, image: np.ndarray, timing: Timing
) -> np.ndarray:
    """Returns the ids of the next frame, uint8 [height, width], after given masks and points."""
    if position == 0:
        mask = video.first_mask()
        predictor.start(image, mask)
        return mask
    begin = time.perf_counter()
    ids = predictor.step(image)
    timing.step_seconds.append(time.perf_counter() - begin)
    later_mask = video.later_mask(position)
    ids = ids if later_mask is None else take_mask(predictor, later_mask, ids)
    for marks in video.later_marks.get(position, ()):
        ids = prompt_files.take_marks(predictor, marks, image, ids)
    return ids


def write_missing(video: InputVideo, outputs: Outputs) -> None:
    """Writes the missing other files of complete masks.

    Raises:
      InputError: a frame or a mask cannot be read, or a file cannot be written.
    """
    missing = [
        files
        for files in outputs.files
        if not mask_folder.has_files(outputs.masks, type(files).__name__, files.paths())
    ]
    if not missing:
        return
    frames = tqdm(
        background.prefetched(video.frames), "other files", video.frames.length, leave=False
    )
    with _writing(missing, video, outputs.masks) as write:
        for position, frame in enumerate(frames):
            if video.is_asked(position):
                name = video.frames.name(position)
                ids = masks.read_annotation(outputs.masks / f"{name}.png")
                write(Result(name, frame.time, frame.image, ids))


@contextlib.contextmanager
def _writing(kinds: Sequence[ResultFiles], video: InputVideo, folder: Path) -> Iterator[Write]:
    """Yields a function that writes a result of a video to files of several kinds.

    When the block succeeds, they are noted in the folder of the masks.
    """
    frames, paths = video.frames, video.source.paths
    facts = VideoFacts(
        frames.frames_per_second,
        frames.length if video.asked is None else len(video.asked),
        video.object_ids(),
        sound=paths[0] if len(paths) == 1 else None,
        pixel_aspect=video.source.pixel_aspect,
    )
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(files.writing(facts)) for files in kinds]

        def write(result: Result) -> None:
            for each in writers:
                each(result)

        yield write
    for files in kinds:
        mask_folder.note_files(folder, type(files).__name__, files.paths())


class _Output:
    """Writes the results of one video, and its state periodically and when the run stops."""

    def __init__(
        self, video: InputVideo, folder: Path, write_files: Write, progress: _Progress | None
    ):
        self._video, self._folder = video, folder
        self._write_files, self._progress = write_files, progress
        self._names: list[str] = []
        self._last_seen: dict[int, int] = {}  # Object id -> position of a frame.
        self._snapshot: Snapshot | None = None
        self._saved_at = time.monotonic()

    def write(self, result: Result, snapshot: Snapshot | None) -> None:
        """Writes the next frame's results; its mask exists already if `snapshot` is None."""
        position = len(self._names)
        if snapshot is not None:
            masks.write_mask(self._folder / f"{result.name}.png", result.ids)
        if self._video.is_asked(position):
            self._write_files(result)
        self._names.append(result.name)
        self._snapshot = snapshot
        self._last_seen.update(dict.fromkeys(masks.object_ids(result.ids), position))
        if time.monotonic() - self._saved_at > SECONDS_BETWEEN_STATES:
            self.save_state()
        if self._progress is not None:
            self._progress.advance(is_of_this_run=snapshot is not None)

    def lost(self) -> str:
        """Returns `object 2 was last seen in frame 00012, object 1 in 00047 (the last)`, or ``."""
        end = len(self._names) - 1
        if min(self._last_seen.values(), default=end) == end:
            return ""
        places = []
        for value, position in sorted(self._last_seen.items(), key=lambda item: item[::-1]):
            where = "in" if places else "was last seen in frame"
            note = " (the last)" if position == end else ""
            places.append(f"object {value} {where} {self._names[position]}{note}")
        return ", ".join(places)

    def save_state(self) -> int:
        """Saves the state; returns the number of frames that need not be redone."""
        count = len(self._names)
        if self._snapshot is not None:
            with contextlib.suppress(InputError):  # The first failure already reports a full disk.
                mask_folder.save_state(self._folder, count - 1, self._snapshot())
        self._saved_at = time.monotonic()
        return count


def _restored(predictor: Propagator, video: InputVideo, folder: Path) -> list[Path]:
    """Restores the state of an interrupted run; returns its masks, none if it is not usable."""
    saved = mask_folder.load_state(folder)
    if saved is None:
        return []
    position, state = saved
    paths = [folder / f"{video.frames.name(p)}.png" for p in range(position + 1)]
    # A power failure leaves empty files.
    if not all(path.is_file() and path.stat().st_size for path in paths):
        return []
    try:
        predictor.restore(state)
    except InputError:
        return []
    return paths


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove_unasked(video: InputVideo, folder: Path) -> None:
    """Removes masks that are not asked for; they were only needed to resume the run."""
    if video.asked is not None:
        asked = {video.frames.name(position) for position in video.asked}
        for path in folder.glob("*.png"):
            if path.stem not in asked:
                path.unlink()


class _Progress(tqdm):
    """A progress bar of frames whose time estimate ignores untypical ones.

    These are the given frame, the next ones, in which graphs are built, and those of an earlier
    run.
    """

    _IGNORED = 4

    def __init__(self, **arguments: Any):
        super().__init__(unit="frame", smoothing=0.1, **arguments)
        self._of_this_run = 0

    def advance(self, is_of_this_run: bool) -> None:
        """Counts one more frame."""
        self._of_this_run += is_of_this_run
        if self._of_this_run > self._IGNORED:
            self.update()
            return
        self.n += 1
        self.last_print_n, self.last_print_t = self.n, time.time()
        self.refresh()
