"""Segments videos into folders of masks and draws overlays, decoding each frame once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, NamedTuple

from tqdm import tqdm

from feelvos_tf.core import background
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.segmenting import Earlier, OnFrame, SegmentedFrame, Timing, segmented
from feelvos_tf.inference.video_segmenter import VideoSegmenter
from feelvos_tf.media import mask_folder, masks, result_files
from feelvos_tf.media.result_files import Result, ResultFiles, VideoFacts

SECONDS_BETWEEN_STATES = 20.0


class Outputs(NamedTuple):
    """Where the results of one video go.

    Attributes:
      masks: folder of the masks, which appears when the video is done.
      files: what else to write.
    """

    masks: Path
    files: tuple[ResultFiles, ...] = ()


@dataclass
class Report:
    """What came of some videos.

    Attributes:
      done: names of the videos that were segmented.
      complete: names of those that were complete already.
      failed: name of a video -> the sentence that tells why it was not segmented.
      timing: of all.
    """

    done: list[str] = field(default_factory=list)
    complete: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)


def segment_videos(
    make_segmenter: Callable[[], VideoSegmenter],
    videos: Sequence[InputVideo],
    outputs_of: Callable[[InputVideo], Outputs],
    settings: dict[str, Any],
    overwrite: bool = False,
    on_frame: OnFrame | None = None,
    on_start: Callable[[InputVideo], None] | None = None,
) -> Report:
    """Returns what came of the videos; their results are on disk.

    A video whose folder is complete, made from the same files with the same settings, is left
    alone; only other results that are missing or older than its masks are written. All videos are
    looked at before the first is segmented. One of several that cannot be used does not stop the
    others.

    Args:
      make_segmenter: called once, unless nothing is to be done.
      videos: what to segment.
      outputs_of: where the results of a video go.
      settings: what the masks depend on besides the video, JSON values.
      overwrite: segment also what is complete.
      on_frame: called with every segmented frame's video, position and state.
      on_start: called with every video before it is segmented.

    Raises:
      InputError: a mask, a frame or a folder of the only video cannot be used.
    """
    report = Report()
    begin = time.perf_counter()

    def tried(function: Callable[..., Any], video: InputVideo, *arguments: Any) -> Any:
        try:
            return function(video, *arguments)
        except InputError as error:
            if len(videos) == 1:
                raise
            report.failed[video.name] = str(error)
            return None

    def is_to_do(video: InputVideo) -> bool:
        return needs_segmenting(video, outputs_of(video), settings, overwrite)

    todo = [video for video in videos if tried(is_to_do, video)]
    segmenter = make_segmenter() if todo else None
    with _progress(todo) as progress:

        def segment(video: InputVideo) -> None:
            progress.set_description(video.name)
            if on_start is not None:
                on_start(video)
            outputs = outputs_of(video)
            segment_video(
                segmenter, video, outputs, settings, overwrite, on_frame, report.timing, progress
            )
            report.done.append(video.name)

        for video in todo:
            tried(segment, video)
    report.timing.total_seconds = time.perf_counter() - begin
    todo_names = {video.name for video in todo}
    for video in videos:
        if video.name not in todo_names and video.name not in report.failed:
            report.complete.append(video.name)
            tried(write_missing, video, outputs_of(video))
    return report


def needs_segmenting(
    video: InputVideo, outputs: Outputs, settings: dict[str, Any], overwrite: bool = False
) -> bool:
    """Returns whether a video is to be segmented, after a look at what it needs.

    Raises:
      InputError: a mask, the first frame or the output folder cannot be used.
    """
    is_known = not overwrite and mask_folder.is_prediction(outputs.masks)
    if is_known and mask_folder.is_complete(outputs.masks, _stamp(video, settings)):
        return False
    input_video.check(video)
    mask_folder.check_replaceable(outputs.masks)
    return True


def segment_video(
    segmenter: VideoSegmenter,
    video: InputVideo,
    outputs: Outputs,
    settings: dict[str, Any],
    start_over: bool = False,
    on_frame: OnFrame | None = None,
    timing: Timing | None = None,
    progress: tqdm | None = None,
) -> None:
    """Segments one video: one mask per frame, named as its frame or by its number, and the rest.

    Where an earlier run was interrupted this one goes on.

    Args:
      segmenter: what to segment with.
      video: what to segment.
      outputs: where the results go.
      settings: what the masks depend on besides the video.
      start_over: use nothing of an interrupted run.
      on_frame: see `segment_videos`.
      timing: takes the time spent.
      progress: takes the frames.

    Raises:
      InputError: a frame or a folder cannot be used. The masks so far are kept.
    """
    timing = timing or Timing()
    stamp = _stamp(video, settings)
    start_over = start_over or on_frame is not None
    with contextlib.ExitStack() as stack:
        # Closed after the masks, the other files are not older than they are.
        writers = [stack.enter_context(_writing(video, files)) for files in outputs.files]
        folder = stack.enter_context(mask_folder.replacing(outputs.masks, stamp, start_over))
        earlier = _earlier(segmenter, video, folder)
        frames = segmented(segmenter, video, timing, on_frame, earlier)
        states = _States(folder)
        try:
            with background.Background(timing.writing) as worker:
                for frame in frames:
                    worker.submit(_write, frame, video, folder, writers, states, progress)
        except BaseException as error:
            kept = states.save()
            if isinstance(error, InputError) and kept:
                raise InputError(f"{error}; the {kept} masks before it are in {folder}") from error
            raise
        _remove_unasked(video, folder)


def _remove_unasked(video: InputVideo, folder: Path) -> None:
    """Removes masks that nobody asked for; they were there to go on after an interruption."""
    if video.asked is not None:
        asked = {video.frame_name(position) for position in video.asked}
        for path in folder.glob("*.png"):
            if path.stem not in asked:
                path.unlink()


class _States:
    """Saves the state of a video now and then, and once more where the run stops."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._last: SegmentedFrame | None = None
        self._saved_at = time.monotonic()

    def written(self, frame: SegmentedFrame) -> None:
        """Takes notice of a frame whose results are written."""
        self._last = frame
        if time.monotonic() - self._saved_at > SECONDS_BETWEEN_STATES:
            self.save()

    def save(self) -> int:
        """Returns the number of frames that need not be segmented again."""
        frame = self._last
        if frame is None:
            return 0
        if frame.snapshot is not None:
            with contextlib.suppress(InputError):  # A full disk is told by what failed first.
                state = mask_folder.SavedState(frame.position, frame.snapshot())
                mask_folder.save_state(self._folder, state)
        self._saved_at = time.monotonic()
        return frame.position + 1


def _write(
    frame: SegmentedFrame,
    video: InputVideo,
    folder: Path,
    writers: list[Callable[[Result], None]],
    states: _States,
    progress: tqdm | None,
) -> None:
    """Writes what is known of one frame."""
    name = video.frame_name(frame.position)
    if frame.snapshot is not None:
        masks.write_mask(folder / f"{name}.png", frame.ids)
    for write in writers:
        write(Result(name, frame.time, frame.image, frame.ids))
    states.written(frame)
    if progress is not None:
        progress.update()


def _earlier(segmenter: VideoSegmenter, video: InputVideo, folder: Path) -> Earlier | None:
    """Returns what an interrupted run has left in a partial folder; None where it is of no use."""
    saved = mask_folder.load_state(folder)
    if saved is None:
        return None
    paths = [folder / f"{video.frame_name(p)}.png" for p in range(saved.position + 1)]
    # A file without content is one that a machine without power has not written out.
    if not all(path.is_file() and path.stat().st_size for path in paths):
        return None
    try:
        state = segmenter.restore(saved.arrays)
    except InputError:
        return None
    return Earlier(saved.position, state, lambda position: masks.read_mask(paths[position]))


def _stamp(video: InputVideo, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what the masks of a video depend on, JSON values."""
    return {**settings, "clip": video.fingerprint()}


def _progress(videos: Sequence[InputVideo]) -> tqdm:
    """Returns a progress bar of all frames, as far as the files tell how many they are."""
    lengths = [video.frames.length for video in videos]
    total = None if None in lengths else sum(lengths)
    return tqdm(total=total, unit="frame", disable=not videos, smoothing=0.1)


def write_missing(video: InputVideo, outputs: Outputs) -> None:
    """Writes what belongs to masks that are complete already, unless it is there.

    Raises:
      InputError: a frame or a mask cannot be read, or a file not be written.
    """
    stamp = outputs.masks / mask_folder.STAMP
    missing = [files for files in outputs.files if not result_files.are_newer(files, stamp)]
    if not missing:
        return
    frames = tqdm(
        background.prefetched(video.frames), "other files", video.frames.length, leave=False
    )
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_writing(video, files)) for files in missing]
        for position, frame in enumerate(frames):
            name = video.frame_name(position)
            if video.asked is not None and position not in video.asked:
                continue
            ids = masks.read_mask(outputs.masks / f"{name}.png")
            for write in writers:
                write(Result(name, frame.time, frame.image, ids))


@contextlib.contextmanager
def _writing(video: InputVideo, files: ResultFiles) -> Iterator[Callable[[Result], None]]:
    """Yields what writes one kind of results of a video. See `ResultFiles.writing`."""
    frames = video.frames
    paths = video.source.paths
    sound = paths[0] if len(paths) == 1 and not video.source.is_live else None
    facts = VideoFacts(frames.frames_per_second, frames.length, video.object_ids(), sound)
    with files.writing(facts) as write:
        yield write
