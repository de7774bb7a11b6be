"""The command-line flags that select a video, its frames and its masks.

A program defines them once and reads them after the command line has been parsed:

    _VIDEO = video_flags.VideoFlags(cli.flag_values(__name__))
    ...
    video = _VIDEO.input_video()
"""

from __future__ import annotations

import pathlib
import re
from fractions import Fraction

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


class VideoFlags:
    """The flags of one program: --video, --mask, those that select frames, and the like."""

    def __init__(self, flag_values: flags.FlagValues):
        """Defines them.

        Args:
          flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
        """
        one_video = cli.FlagGroup(flag_values, "One video")
        one_video.string(
            "video",
            "A video, a folder of pictures, a pattern such as 'shots/*.jpg', the number of a "
            "camera (0), or - for standard input.",
        )
        one_video.string(
            "videos",
            "Instead of --video, many videos: a list with VIDEO MASK on every line, or a folder in "
            "which each video has a mask of the same name next to it.",
        )
        one_video.string(
            "mask",
            "The objects of the first frame: a PNG with ids, with colors or white on black, or one "
            "drawn on the frame itself; a file per object (1.png,2.png); or JSON (COCO RLE or "
            "polygons, labelme).",
        )
        one_video.string(
            "points",
            "Instead of --mask and --mask_at, clicks and boxes on the objects as JSON: "
            '[{"object_id": 1, "points": [[420, 180]], "labels": [1]}], for the first frame and, '
            'with "frame", for later ones.',
        )
        one_video.multi_string(
            "mask_at",
            "FRAME:MASK, e.g. 120:later.png. Adds new objects and corrects known ones.",
            [],
        )
        one_video.string(
            "first_frame", "Only write the first frame to this PNG, to draw --mask on."
        )
        frames = cli.FlagGroup(flag_values, "Which of its frames")
        frames.string(
            "start",
            "First frame: its number from 0, or seconds as in 12.5s (the first frame at that time "
            "or later).",
        )
        frames.string("end", "Where to stop: the frame after the last, or seconds.")
        frames.integer("every", "Take only every n-th frame.", 1, lower_bound=1)
        frames.integer(
            "max_side",
            "Scale frames and masks down to this many pixels on the long side.",
            lower_bound=16,
        )
        frames.floating(
            "fps",
            "Frames per second of sources without timestamps: pictures, MJPEG, raw frames; default "
            f"{video.DEFAULT_FRAMES_PER_SECOND:g}.",
            lower_bound=0.01,
            upper_bound=1000,
        )
        frames.string("raw_size", "WxH of raw frames on standard input (ffmpeg -f rawvideo).")
        frames.string("raw_format", "Their pixel format, as ffmpeg calls it; by default rgb24.")
        self._flags, self._names = flag_values, [*one_video.names, *frames.names]

    @property
    def is_live(self) -> bool:
        """Whether --video is a pipe or a camera."""
        source = self._flags.video or ""
        is_camera = source.isdecimal() and not pathlib.Path(source).exists()
        return source == PIPE or is_camera

    def check(self) -> None:
        """Raises InputError if the flags contradict each other."""
        own = [self._flags[name] for name in self._names]
        given = [each.name for each in own if each.value != each.default]
        if self._flags.videos is not None:
            wrong = [name for name in given if name not in _OF_MANY]
            if wrong:
                raise InputError(f"--videos cannot be combined with --{wrong[0]}")
            return
        if self._flags.video is None:
            if "mask" in given:
                raise InputError(_MASK_IS_NEEDED)
            if given:
                raise InputError(f"--{given[0]} needs --video")
            return
        if [self._flags[name].value for name in ("mask", "points", "first_frame")].count(None) != 2:
            raise InputError(_MASK_IS_NEEDED)
        if self._flags.mask_at and self._flags.mask is None:
            raise InputError("--mask_at needs --mask")
        if self._flags.points is not None and self.is_live:
            raise InputError("--points: expected video files, found a camera or pipe")
        first_frame = self._flags.first_frame
        if first_frame is not None and pathlib.Path(first_frame).suffix.lower() != ".png":
            raise InputError("--first_frame: expected a name that ends in .png")
        if self._flags.video != PIPE and {"raw_size", "raw_format"} & {*given}:
            raise InputError(f"--raw_size and --raw_format are for --video={PIPE}")
        if "raw_format" in given and "raw_size" not in given:
            raise InputError("--raw_format needs --raw_size")

    def write_first_frame(self) -> None:
        """Writes the first frame to the file of --first_frame."""
        path, folder = self._flags.first_frame, pathlib.Path(self._flags.video)
        if folder.is_dir() and folder.resolve() == pathlib.Path(path).resolve().parent:
            raise InputError(
                f"{path}: expected a file outside {folder}, as it would be a frame there"
            )
        source = self._frames()
        image = SelectedFrames(source, self._selection(source)).first()
        if image is None:
            raise InputError(f"{self._flags.video}: expected a video with frames, found none")
        pictures.write_image(path, image)
        print(
            f"written: {path}, {input_video.size_of(image.shape)} pixels: draw each object on it, "
            "or on a black picture of the same size, in a saturated color of its own, save it as "
            "PNG, and pass the drawing as --mask"
        )

    def input_videos(self, points_folder: str, prompter: Prompter | None) -> list[InputVideo]:
        """Returns the videos that --video or --videos names. See `input_video`."""
        if self._flags.videos is None:
            return [self.input_video(points_folder, prompter)]
        for name in ("start", "end"):
            if str(self._flags[name].value).endswith("s"):
                raise InputError(f"--{name}: expected a frame's number with --videos, not seconds")
        return many_videos.find(self._flags.videos, self._selection(video.Frames()))

    def input_video(self, points_folder: str = "", prompter: Prompter | None = None) -> InputVideo:
        """Returns the video that the flags name.

        Args:
          points_folder: where masks of --points are written.
          prompter: makes them.

        Raises:
          InputError: the video cannot be used, or the value of a flag is invalid.
        """
        source = self._frames()
        later = many_videos.masks_by_frame("--mask_at", self._flags.mask_at)
        name = {PIPE: "standard input"}.get(self._flags.video, pathlib.Path(self._flags.video).name)
        selection = self._selection(source)
        marked = self._flags.points
        if marked is not None:
            later, marks = prompt_files.write(marked, source, selection, prompter, points_folder)
            if selection.start not in later:
                raise InputError(
                    f"{marked}: expected an object in the first frame ({selection.start})"
                )
            return input_video.from_video(
                source, later.pop(selection.start), later, selection, name, marks
            )
        mask = self._flags.mask
        paths = mask if "," not in mask or pathlib.Path(mask).exists() else mask.split(",")
        return input_video.from_video(source, paths, later, selection, name)

    def _frames(self) -> video.Frames:
        rate = self._flags.fps or video.DEFAULT_FRAMES_PER_SECOND
        if self._flags.video == PIPE:
            size = _size(self._flags.raw_size)
            return live_frames.open_pipe(None, size, self._flags.raw_format or "rgb24", rate)
        if self.is_live:
            return live_frames.open_camera(int(self._flags.video))
        return video.open_frames(self._flags.video, rate)

    def _selection(self, source: video.Frames) -> Selection:
        start = _number("start", self._flags.start or "0", source)
        end = None
        if self._flags.end is not None:
            end = _number("end", self._flags.end, source)
            if end <= start:
                raise InputError(f"--end: expected a frame after --start={start}, found {end}")
        return Selection(start, end, self._flags.every, self._flags.max_side)


def _number(flag: str, text: str, source: video.Frames) -> int:
    """Returns the number of a frame for `120` and for `12.5s`."""
    found = re.fullmatch(r"(\d{1,9})|(\d{1,9}(?:\.\d*)?)s", text)
    if not found:
        raise InputError(f"--{flag}: expected a frame's number or seconds (12.5s), found {text!r}")
    return int(found[1]) if found[1] else source.number_at(Fraction(found[2]))


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
