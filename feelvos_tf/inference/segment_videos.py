"""Segments videos into folders of masks and draws overlays, decoding each frame once."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.video_segmenter import VideoSegmenter, VideoState
from feelvos_tf.media import mask_folder, masks, overlay_files
from feelvos_tf.media.overlay_files import OverlayFiles

T = TypeVar("T")
OnFrame = Callable[[InputVideo, int, VideoState], None]
_END = object()


class Outputs(NamedTuple):
    """Where the results of one video go.

    Attributes:
      masks: folder of the masks, which appears when the video is done.
      overlay: what to draw; None for nothing.
    """

    masks: Path
    overlay: OverlayFiles | None = None


class SegmentedFrame(NamedTuple):
    """One frame and its result.

    Attributes:
      position: of the frame in the video.
      image: uint8 [height, width, 3] RGB.
      ids: object ids, uint8 [height, width].
    """

    position: int
    image: np.ndarray
    ids: np.ndarray


@dataclass
class Timing:
    """Seconds spent. The median step leaves out the first frames, during which graphs are built.

    Attributes:
      step_seconds: one value per frame that went through the model.
      total_seconds: everything: reading, the model, writing.
    """

    step_seconds: list[float] = field(default_factory=list)
    total_seconds: float = 0.0

    def sentence(self) -> str:
        """Returns `70 frames, 0.41 s per frame in the model (median), 0.45 s in all`."""
        count = len(self.step_seconds)
        if not count:
            return "no frame beside the given one"
        return (
            f"{count} frames, {statistics.median(self.step_seconds):.3f} s per frame in the model "
            f"(median), {self.total_seconds / count:.3f} s in all"
        )


def segment_videos(
    make_segmenter: Callable[[], VideoSegmenter],
    videos: list[InputVideo],
    outputs_of: Callable[[InputVideo], Outputs],
    settings: dict[str, Any],
    overwrite: bool = False,
    on_frame: OnFrame | None = None,
    on_start: Callable[[InputVideo], None] | None = None,
) -> tuple[list[InputVideo], Timing]:
    """Returns the videos that were segmented and the time they took; the results are on disk.

    A video whose folder is complete, made from the same files with the same settings, is left
    alone; only an overlay that is missing or older than its masks is drawn. All videos are looked
    at before the first is segmented.

    Args:
      make_segmenter: called once, unless nothing is to be done.
      videos: what to segment.
      outputs_of: where the results of a video go.
      settings: what the masks depend on besides the video, JSON values.
      overwrite: segment also what is complete.
      on_frame: called with every segmented frame's video, position and state.
      on_start: called with every video before it is segmented.

    Raises:
      InputError: a mask, a frame or a folder cannot be used.
    """
    # The key is what stamps written earlier call it.
    stamps = {video.name: {**settings, "clip": video.fingerprint()} for video in videos}
    complete = {
        video.name
        for video in videos
        if not overwrite and mask_folder.is_complete(outputs_of(video).masks, stamps[video.name])
    }
    todo = [video for video in videos if video.name not in complete]
    for video in todo:
        input_video.check(video)
        mask_folder.check_replaceable(outputs_of(video).masks)
    timing = Timing()
    start = time.perf_counter()
    segmenter = make_segmenter() if todo else None
    with _progress(todo) as progress:
        for video in todo:
            progress.set_description(video.name)
            if on_start is not None:
                on_start(video)
            frames = segmented(segmenter, video, timing, on_frame)
            _write(frames, video, outputs_of(video), stamps[video.name], progress)
    timing.total_seconds = time.perf_counter() - start
    for video in videos:
        if video.name in complete:
            _draw_if_missing(video, outputs_of(video))
    return todo, timing


def segmented(
    segmenter: VideoSegmenter, video: InputVideo, timing: Timing, on_frame: OnFrame | None = None
) -> Iterator[SegmentedFrame]:
    """Yields every frame with its object ids; the first one's are those of the given mask.

    An object that appears later is added to the others from its first mask on.
    """
    mask = video.first_mask()
    state = None
    for position, image in enumerate(_prefetched(video.frames)):
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"{video.name}: expected frames of {input_video.size_of(mask)} pixels (width x "
                f"height) like the first, found {input_video.size_of(image)} at frame {position}"
            )
        if state is None:
            state, ids = segmenter.start(image, mask), mask
        else:
            begin = time.perf_counter()
            ids = state.step(image)
            timing.step_seconds.append(time.perf_counter() - begin)
        if position in video.new_objects:
            new_mask = video.mask_of_new_objects(position)
            state.add_objects(new_mask)
            ids = np.where(new_mask != 0, new_mask, ids)
        if on_frame is not None:
            on_frame(video, position, state)
        yield SegmentedFrame(position, image, ids)


def _progress(videos: list[InputVideo]) -> tqdm:
    """Returns a progress bar of all frames, as far as the files tell how many they are."""
    lengths = [video.frames.length for video in videos]
    total = None if None in lengths else sum(lengths)
    return tqdm(total=total, unit="frame", disable=not videos)


def _write(
    frames: Iterable[SegmentedFrame],
    video: InputVideo,
    outputs: Outputs,
    stamp: dict[str, Any],
    progress: tqdm,
) -> None:
    """Writes one mask per frame, named as its frame or by its number, and the overlay."""
    with contextlib.ExitStack() as stack:
        # Closed after the masks, the overlay is not older than they are.
        draw = stack.enter_context(_drawing(video, outputs.overlay))
        folder = stack.enter_context(mask_folder.replacing(outputs.masks, stamp))

        def write(frame: SegmentedFrame) -> None:
            path = folder / f"{video.frame_name(frame.position)}.png"
            masks.write_mask(path, frame.ids)
            draw(frame.image, frame.ids)
            progress.update()

        _in_background(write, frames)


def _draw_if_missing(video: InputVideo, outputs: Outputs) -> None:
    """Draws the overlay of masks that were complete already, unless it is there."""
    stamp = outputs.masks / mask_folder.STAMP
    if outputs.overlay is None or overlay_files.are_newer(outputs.overlay, stamp):
        return
    images = tqdm(_prefetched(video.frames), "overlay", video.frames.length, leave=False)
    with _drawing(video, outputs.overlay) as draw:
        for position, image in enumerate(images):
            draw(image, masks.read_mask(outputs.masks / f"{video.frame_name(position)}.png"))


@contextlib.contextmanager
def _drawing(
    video: InputVideo, files: OverlayFiles | None
) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Yields a function that takes a frame and its ids. See `overlay_files.writing`."""
    if files is None:
        yield lambda image, ids: None
        return
    frames = video.frames
    with overlay_files.writing(files, frames.frames_per_second, frames.length) as draw:
        yield draw


def _in_background(function: Callable[[T], None], items: Iterable[T]) -> None:
    """Calls `function` with each of the items, the next one being made meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        pending = None
        for item in items:
            if pending is not None:
                pending.result()
            pending = worker.submit(function, item)
        if pending is not None:
            pending.result()


def _prefetched(items: Iterable[T]) -> Iterator[T]:
    """Yields the items, the next one being made in the background meanwhile."""
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as reader:
        upcoming = reader.submit(next, iterator, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = reader.submit(next, iterator, _END)
            yield item
