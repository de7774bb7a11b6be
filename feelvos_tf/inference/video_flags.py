"""The command-line flags that select a video, its frames and its masks.

A program defines them once and reads them after the command line has been parsed:

    _VIDEO = video_flags.define(cli.flag_values(__name__))
    ...
    video = _VIDEO.input_video()
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from absl import flags

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video, many_videos, prompt_files
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.prompt import Prompter
from feelvos_tf.media import live_frames, pictures, video
from feelvos_tf.media.selection import SelectedFrames, Selection

PIPE = "-"
_OF_MANY = ("videos", "start", "end", "every", "max_side")  # Allowed with --videos.
_MASK_IS_NEEDED = (
    "expected --video with either --mask (of its first frame) or --points; "
    "--first_frame=first.png writes that frame, to draw the mask on"
)


def define(flag_values: flags.FlagValues) -> VideoFlags:
    """Defines --video, --mask, --mask_at, --first_frame and the flags that select frames.

    Args:
      flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
    """
    own = {"flag_values": flag_values}
    one_video = {
        "video": flags.DEFINE_string(
            "video",
            None,
            "A video, a folder of pictures, a pattern such as 'shots/*.jpg', the number of a "
            "camera (0), or - for standard input.",
            **own,
        ),
        "videos": flags.DEFINE_string(
            "videos",
            None,
            "Instead of --video, many videos: a list with VIDEO MASK on every line, or a folder in "
            "which each video has a mask of the same name next to it.",
            **own,
        ),
        "mask": flags.DEFINE_string(
            "mask",
            None,
            "The objects of the first frame: a PNG with ids, with colors or white on black, or one "
            "drawn on the frame itself; a file per object (1.png,2.png); or JSON (COCO RLE or "
            "polygons, labelme).",
            **own,
        ),
        "points": flags.DEFINE_string(
            "points",
            None,
            "Instead of --mask and --mask_at, clicks and boxes on the objects as JSON: "
            '[{"object_id": 1, "points": [[420, 180]], "labels": [1]}], for the first frame and, '
            'with "frame", for later ones.',
            **own,
        ),
        "mask_at": flags.DEFINE_multi_string(
            "mask_at",
            [],
            "FRAME:MASK, e.g. 120:later.png. Adds new objects and corrects known ones.",
            **own,
        ),
        "first_frame": flags.DEFINE_string(
            "first_frame",
            None,
            "Only write the first frame to this PNG, to draw --mask on.",
            **own,
        ),
    }
    frames = {
        "start": flags.DEFINE_string(
            "start",
            None,
            "First frame: its number from 0, or seconds as in 12.5s (the first frame at that time "
            "or later).",
            **own,
        ),
        "end": flags.DEFINE_string(
            "end", None, "Where to stop: the frame after the last, or seconds.", **own
        ),
        "every": flags.DEFINE_integer(
            "every", 1, "Take only every n-th frame.", lower_bound=1, **own
        ),
        "max_side": flags.DEFINE_integer(
            "max_side",
            None,
            "Scale frames and masks down to this many pixels on the long side.",
            lower_bound=16,
            **own,
        ),
        "fps": flags.DEFINE_float(
            "fps",
            None,
            "Frames per second of sources without timestamps: pictures, MJPEG, raw frames; default "
            f"{video.DEFAULT_FRAMES_PER_SECOND:g}.",
            lower_bound=0.01,
            upper_bound=1000,
            **own,
        ),
        "raw_size": flags.DEFINE_string(
            "raw_size", None, "WxH of raw frames on standard input (ffmpeg -f rawvideo).", **own
        ),
        "raw_format": flags.DEFINE_string(
            "raw_format", None, "Their pixel format, as ffmpeg calls it; by default rgb24.", **own
        ),
    }
    cli.group_flags(flag_values, "One video", list(one_video))
    cli.group_flags(flag_values, "Which of its frames", list(frames))
    return VideoFlags({**one_video, **frames})


class VideoFlags:
    """The flags of one program, from `define`."""

    def __init__(self, holders: dict[str, flags.FlagHolder]):
        self._holders = holders

    def value(self, name: str) -> Any:
        """Returns the value of a flag."""
        return self._holders[name].value

    @property
    def source(self) -> str | None:
        """The value of --video."""
        return self.value("video")

    @property
    def is_live(self) -> bool:
        """Whether --video is a pipe or a camera."""
        source = self.source or ""
        is_camera = source.isdecimal() and not pathlib.Path(source).exists()
        return source == PIPE or is_camera

    @property
    def is_first_frame(self) -> bool:
        """Whether only the first frame is asked for."""
        return self.value("first_frame") is not None

    def check(self) -> None:
        """Raises InputError if the flags contradict each other."""
        given = [name for name in self._holders if name != "video" and self._is_given(name)]
        if self.value("videos") is not None:
            wrong = [name for name in ("video", *given) if name not in _OF_MANY]
            if self.source is not None or wrong[1:]:
                raise InputError(f"--videos cannot be combined with --{wrong[-1]}")
            return
        if self.source is None:
            if "mask" in given:
                raise InputError(_MASK_IS_NEEDED)
            if given:
                raise InputError(f"--{given[0]} needs --video")
            return
        if [self.value(name) for name in ("mask", "points", "first_frame")].count(None) != 2:
            raise InputError(_MASK_IS_NEEDED)
        if self.value("points") is not None and (self.value("mask_at") or self.is_live):
            wrong = "--mask_at" if self.value("mask_at") else "a camera or pipe"
            raise InputError(f"--points: expected video files without --mask_at, found {wrong}")
        if self.value("first_frame") is not None:
            if self.value("mask_at"):
                raise InputError("--first_frame cannot be combined with --mask_at")
            if pathlib.Path(self.value("first_frame")).suffix.lower() != ".png":
                raise InputError("--first_frame: expected a name that ends in .png")
        if self.source != PIPE and (self._is_given("raw_size") or self._is_given("raw_format")):
            raise InputError(f"--raw_size and --raw_format are for --video={PIPE}")
        if self._is_given("raw_format") and not self._is_given("raw_size"):
            raise InputError("--raw_format needs --raw_size")

    def write_first_frame(self) -> None:
        """Writes the first frame to the file of --first_frame."""
        path = self.value("first_frame")
        source = self._frames()
        image = SelectedFrames(source, self._selection(source)).first()
        if image is None:
            raise InputError(f"{self.source}: expected a video with frames, found none")
        pictures.write_image(path, image)
        print(
            f"written: {path}, {input_video.size_of(image.shape)} pixels: draw each object on it, "
            "or on a black picture of the same size, in a saturated color of its own, save it as "
            "PNG, and pass the drawing as --mask"
        )

    def input_videos(self) -> list[InputVideo]:
        """Returns the videos that --videos names. See `many_videos.find`."""
        for name in ("start", "end"):
            if str(self.value(name)).endswith("s"):
                raise InputError(f"--{name}: expected a frame's number with --videos, not seconds")
        return many_videos.find(self.value("videos"), self._selection(video.Frames()))

    def input_video(self, points_folder: str = "", prompter: Prompter | None = None) -> InputVideo:
        """Returns the video that the flags name.

        Args:
          points_folder: where masks of --points are written.
          prompter: makes them.

        Raises:
          InputError: the video cannot be used, or the value of a flag is invalid.
        """
        source = self._frames()
        later = _by_frame(self.value("mask_at"))
        name = {PIPE: "standard input"}.get(self.source, pathlib.Path(self.source).name)
        selection = self._selection(source)
        marked = self.value("points")
        if marked is not None:
            later, marks = prompt_files.write(marked, source, selection, prompter, points_folder)
            if selection.start not in later:
                raise InputError(
                    f"{marked}: expected an object in the first frame ({selection.start})"
                )
            return input_video.from_video(
                source, later.pop(selection.start), later, selection, name, marks
            )
        mask = self.value("mask")
        paths = mask if "," not in mask or pathlib.Path(mask).exists() else mask.split(",")
        return input_video.from_video(source, paths, later, selection, name)

    def _frames(self) -> video.Frames:
        rate = self.value("fps") or video.DEFAULT_FRAMES_PER_SECOND
        if self.source == PIPE:
            size = _size(self.value("raw_size"))
            return live_frames.open_pipe(None, size, self.value("raw_format") or "rgb24", rate)
        if self.is_live:
            return live_frames.open_camera(int(self.source))
        return video.open_frames(self.source, rate)

    def _selection(self, source: video.Frames) -> Selection:
        start = _number("start", self.value("start") or "0", source)
        end = None
        if self._is_given("end"):
            end = _number("end", self.value("end"), source)
            if end <= start:
                raise InputError(f"--end: expected a frame after --start={start}, found {end}")
        return Selection(start, end, self.value("every"), self.value("max_side"))

    def _is_given(self, name: str) -> bool:
        return self.value(name) != self._holders[name].default


def _number(flag: str, text: str, source: video.Frames) -> int:
    """Returns the number of a frame for `120` and for `12.5s`."""
    found = re.fullmatch(r"(\d{1,9})|(\d{1,9}(?:\.\d*)?)s", text)
    if not found:
        raise InputError(f"--{flag}: expected a frame's number or seconds (12.5s), found {text!r}")
    return int(found[1]) if found[1] else source.number_at(Fraction(found[2]))


def _by_frame(values: Sequence[str]) -> dict[int, str]:
    """Returns frame number -> mask for `120:later.png`."""
    later = {}
    for text in values:
        number, _, path = text.partition(":")
        if not re.fullmatch(r"\d{1,9}", number) or not path:
            raise InputError(f"--mask_at: expected FRAME:MASK, e.g. 120:later.png, found {text!r}")
        if int(number) in later:
            raise InputError(f"--mask_at: expected one mask for frame {int(number)}, found two")
        later[int(number)] = path
    return later


def _size(text: str | None) -> tuple[int, int] | None:
    """Returns height and width for `640x480`; None for None."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not found:
        raise InputError(f"--raw_size: expected width and height, e.g. 640x480, found {text!r}")
    width, height = int(found[1]), int(found[2])
    pictures.check_size("--raw_size", height, width)
    return height, width
