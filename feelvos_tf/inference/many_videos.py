"""Videos to segment from a list or a tree of folders.

A list has one video per line, with its mask and, optionally, masks of later frames. Paths are
relative to the list's folder; those with spaces are quoted:

    # video          mask             later masks
    clips/a.mp4      masks/a.png      120:masks/a_120.png
    "my clip.mov"    masks/mine.json

In a tree the mask lies next to its video or folder of pictures and has the same name; masks of
later frames have the frame's number in their names:

    TREE/
      a.mp4  a.png  a.120.png
      more/
        b/00000.jpg ...   b.json

An animated .gif or .webp is a video as well. Videos without a mask are skipped, with a warning.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Iterator, Sequence

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.media import pictures, video
from feelvos_tf.media.selection import Selection

_MASK_SUFFIXES = (".png", ".json", ".bmp", ".gif", ".tif", ".tiff", ".webp")
# Any file with a mask of its name is taken for a video; these are missed if they have none.
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv")


def find(source: str | os.PathLike[str], selection: Selection) -> list[InputVideo]:
    """Returns the videos of a list or a tree, in order, each with a unique name.

    Videos that cannot be opened are included, so that the others can be used; their error is raised
    when they are.

    Args:
      source: a text file or a folder.
      selection: which frames of every video to use.

    Raises:
      InputError: there is no such list or folder, it is empty, a line is invalid, or a frame has
        two masks.
    """
    path = pathlib.Path(source)
    found = list(_in_tree(path) if path.is_dir() else _in_list(path))
    if not found:
        raise InputError(f"{path}: expected videos, each with a mask of its name; found none")
    names = [name for name, *_ in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{path}: two videos are called {twice[0]}, expected different names")
    videos = []
    for name, frames, mask, later in found:
        try:
            videos.append(input_video.from_video(frames, mask, later, selection, name))
        except InputError as error:
            nothing = video.ImageFrames([])
            videos.append(InputVideo(name, nothing, pathlib.Path(), problem=str(error)))
    return videos


Entry = tuple[str, pathlib.Path, pathlib.Path, dict[int, pathlib.Path]]


def _in_list(path: pathlib.Path) -> Iterator[Entry]:
    """Yields name, video, mask and later masks of every line."""
    for number, line in enumerate(whole_files.read_text(path, "a list of videos").splitlines(), 1):
        place = f"{path}: line {number}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InputError(f"{place}: {error}") from error
        if not words:
            continue
        if len(words) < 2:
            raise InputError(f"{place}: expected VIDEO MASK [FRAME:MASK ...], found {line!r}")
        source = path.parent / words[0]
        name = source.stem if source.suffix else source.name
        if name in ("", ".", ".."):
            raise InputError(f"{place}: expected a video, found {words[0]!r}")
        given = masks_by_frame(place, words[2:])
        later = {frame: path.parent / mask for frame, mask in given.items()}
        yield name, source, path.parent / words[1], later


def masks_by_frame(place: str, texts: Sequence[str]) -> dict[int, str]:
    """Returns frame number -> mask for texts such as `120:later.png`.

    Args:
      place: where they are, for error messages.
      texts: a mask each.

    Raises:
      InputError: a text has another form, or a frame has two masks.
    """
    later = {}
    for text in texts:
        number, _, mask = text.partition(":")
        if not re.fullmatch(r"\d{1,9}", number) or not mask:
            raise InputError(f"{place}: expected FRAME:MASK, e.g. 120:later.png, found {text!r}")
        if int(number) in later:
            raise InputError(f"{place}: expected one mask for frame {int(number)}, found two")
        later[int(number)] = mask
    return later


def _in_tree(root: pathlib.Path) -> Iterator[Entry]:
    """Yields name, video, mask and later masks of every video below a folder."""
    without_mask = []
    for folder, subfolders, files in os.walk(root):
        subfolders.sort()
        paths = [pathlib.Path(folder, file) for file in sorted(files) if not file.startswith(".")]
        moving = {path for path in paths if _is_moving_picture(path)}
        masks = [p for p in paths if p.suffix.lower() in _MASK_SUFFIXES and p not in moving]
        folders = {pathlib.Path(folder, name) for name in subfolders if name[0] != "."}
        for path in pictures.in_natural_order([*paths, *folders]):
            is_picture = path.suffix.lower() in (*_MASK_SUFFIXES, *pictures.IMAGE_SUFFIXES)
            if path not in folders and path not in moving and is_picture:
                continue
            stem = path.name if path in folders else path.stem
            own, later = _masks_of(stem, masks)
            if own is not None:
                yield path.relative_to(root).with_name(stem).as_posix(), path, own, later
            elif path in moving or path.suffix.lower() in _VIDEO_SUFFIXES:
                without_mask.append(path)
    if without_mask:
        first, *others = without_mask
        more = f" and {len(others)} more" if others else ""
        print(
            f"warning: {root}: expected a mask of the same name next to each video, found none for "
            f"{first.relative_to(root)}{more}, skipped",
            file=sys.stderr,
        )


def _masks_of(
    stem: str, masks: Sequence[pathlib.Path]
) -> tuple[pathlib.Path | None, dict[int, pathlib.Path]]:
    """Returns a video's mask, None if there is none, and its later masks, by frame.

    Args:
      stem: the video's name without suffix.
      masks: all masks in the video's folder.

    Raises:
      InputError: two files are masks of the same frame.
    """
    found: dict[int | None, pathlib.Path] = {}
    for mask in masks:
        number = re.fullmatch(re.escape(stem) + r"(?:\.(\d{1,9}))?\.\w+", mask.name)
        if number:
            frame = number[1] and int(number[1])
            if frame in found:
                raise InputError(
                    f"{mask}: expected one mask for "
                    f"{'the first frame' if frame is None else f'frame {frame}'} of {stem}, found "
                    f"{found[frame].name} as well"
                )
            found[frame] = mask
    return found.pop(None, None), found


def _is_moving_picture(path: pathlib.Path) -> bool:
    """Returns whether a file is an animation: a video, although its suffix is that of a mask."""
    if path.suffix.lower() not in (".gif", ".webp"):
        return False
    with contextlib.suppress(InputError), pictures.opened(path, "a picture") as image:
        return pictures.count_in(image) > 1
    return False
