"""Clips through a segmenter into folders of masks, with overlays to look at."""

from __future__ import annotations

import pathlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video as clips_lib
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.video_segmenter import VideoSegmenter, VideoState
from feelvos_tf.media import mask_folder, masks, overlay, video

T = TypeVar("T")
OnFrame = Callable[[InputVideo, int, VideoState], None]
_END = object()
_SHEET_FRAMES = 6
_SHEET_COLUMNS = 3
_SHEET_TILE_WIDTH = 427


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


def segment_clips(
    make_segmenter: Callable[[], VideoSegmenter],
    clips: list[InputVideo],
    folder_of: Callable[[InputVideo], pathlib.Path],
    settings: dict[str, Any],
    overwrite: bool = False,
    on_frame: OnFrame | None = None,
) -> tuple[list[InputVideo], Timing]:
    """Returns the clips that were segmented and the time they took; the masks are on disk.

    A clip whose folder is complete, made from the same files with the same settings, is left
    alone. All clips are looked at before the first is segmented.

    Args:
      make_segmenter: called once, unless nothing is to be done.
      clips: the videos.
      folder_of: the folder of a clip's masks. Each appears when its clip is done.
      settings: what the masks depend on besides the clip, JSON values.
      overwrite: segment also what is complete.
      on_frame: called with every segmented frame's clip, position and track.

    Raises:
      InputError: a mask, a frame or a folder cannot be used.
    """
    stamps = {clip.name: {**settings, "clip": clip.fingerprint()} for clip in clips}
    todo = [
        clip
        for clip in clips
        if overwrite or not mask_folder.is_complete(folder_of(clip), stamps[clip.name])
    ]
    for clip in todo:
        clips_lib.check(clip)
        mask_folder.check_replaceable(folder_of(clip))
    timing = Timing()
    if not todo:
        return todo, timing
    segmenter = make_segmenter()
    lengths = [clip.frames.length for clip in todo]
    start = time.perf_counter()
    with tqdm(total=None if None in lengths else sum(lengths), unit="frame") as progress:
        for clip in todo:
            progress.set_description(clip.name)
            with mask_folder.replacing(folder_of(clip), stamps[clip.name]) as folder:
                all_ids = segmented(segmenter, clip, timing, on_frame)
                _write_masks(all_ids, clip, folder, progress)
    timing.total_seconds = time.perf_counter() - start
    return todo, timing


def segmented(
    segmenter: VideoSegmenter, clip: InputVideo, timing: Timing, on_frame: OnFrame | None = None
) -> Iterator[np.ndarray]:
    """Yields the object ids of every frame, uint8 [height, width]; the given mask comes first.

    An object that appears later is followed by a track of its own from its first mask on, and
    lies on top of what was known before. `on_frame` is given the track of the first objects.
    """
    mask = clip.first_mask()
    tracks = []
    for position, image in enumerate(_prefetched(clip.frames)):
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"{clip.name}: expected frames of {clips_lib.size_of(mask)} pixels (width x "
                f"height) like the first, found {clips_lib.size_of(image)} at frame {position}"
            )
        begin = time.perf_counter()
        ids = _merged([track.step(image) for track in tracks]) if tracks else mask
        if position == 0:
            tracks = [segmenter.start(image, mask)]
        elif position in clip.new_objects:
            new_mask = clip.mask_of_new_objects(position)
            tracks.append(segmenter.start(image, new_mask))
            ids = _merged([ids, new_mask])
        if position:
            timing.step_seconds.append(time.perf_counter() - begin)
        if on_frame is not None:
            on_frame(clip, position, tracks[0])
        yield ids


def write_overlays(
    clip: InputVideo,
    folder: pathlib.Path,
    video_path: pathlib.Path,
    sheet_path: pathlib.Path | None = None,
) -> None:
    """Writes a video of the frames under their masks and, if asked for, a picture of some frames.

    Args:
      clip: the video.
      folder: its masks, one per frame.
      video_path: the .mp4 to write.
      sheet_path: the picture to write.
    """
    count = len(list(folder.glob("*.png")))
    paths = [folder / f"{clip.frame_name(position)}.png" for position in range(count)]
    chosen = set(np.linspace(0, len(paths) - 1, _SHEET_FRAMES).round().astype(int))
    tiles = []

    def images() -> Iterator[np.ndarray]:
        frames = zip(_prefetched(clip.frames), paths)
        for position, (image, path) in enumerate(tqdm(frames, "overlay", len(paths), leave=False)):
            image = overlay.overlay(image, masks.read_mask(path))
            if position in chosen:
                tiles.append(overlay.contact_sheet([image], 1, _SHEET_TILE_WIDTH))
            yield image

    video.write_video(video_path, images(), clip.frames.frames_per_second)
    if sheet_path is not None:
        video.write_image(sheet_path, overlay.contact_sheet(tiles, _SHEET_COLUMNS))


def _write_masks(
    all_ids: Iterable[np.ndarray], clip: InputVideo, folder: pathlib.Path, progress: tqdm
) -> None:
    """Writes one mask per frame in the background, named as its frame or by its number."""
    with ThreadPoolExecutor(max_workers=1) as writer:
        pending = None
        for position, ids in enumerate(all_ids):
            if pending is not None:
                pending.result()
            path = folder / f"{clip.frame_name(position)}.png"
            pending = writer.submit(masks.write_mask, path, ids)
            progress.update()
        if pending is not None:
            pending.result()


def _merged(layers: list[np.ndarray]) -> np.ndarray:
    """Returns the ids of the last layer that holds an object, pixel by pixel."""
    result = layers[0]
    for layer in layers[1:]:
        result = np.where(layer != 0, layer, result)
    return result


def _prefetched(items: Iterable[T]) -> Iterator[T]:
    """Yields the items, the next one being made in the background meanwhile."""
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as reader:
        upcoming = reader.submit(next, iterator, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = reader.submit(next, iterator, _END)
            yield item
