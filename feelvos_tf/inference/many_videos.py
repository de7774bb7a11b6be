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
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shlex
from collections.abc import Iterator

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.media import pictures, video
from feelvos_tf.media.selection import Selection

_MASK_SUFFIXES = (".png", ".json", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclasses.dataclass(frozen=True)
class BrokenVideo(InputVideo):
    """A video that cannot be opened; using it raises the reason.

    Attributes:
      sentence: the reason.
    """

    sentence: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Raises InputError with the reason; whatever uses the video needs its size first."""
        raise InputError(self.sentence)


def find(source: str | os.PathLike[str], selection: Selection) -> list[InputVideo]:
    """Returns the videos of a list or a tree, in order, each with a unique name.

    Videos that cannot be opened are included, so that the others can be used; their error is raised
    when they are.

    Args:
      source: a text file or a folder.
      selection: which frames of every video to use.

    Raises:
      InputError: there is no such list or folder, it is empty, or a line is invalid.
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
            videos.append(BrokenVideo(name, nothing, pathlib.Path(), sentence=str(error)))
    return videos


Entry = tuple[str, pathlib.Path, pathlib.Path, dict[int, pathlib.Path]]


def _in_list(path: pathlib.Path) -> Iterator[Entry]:
    """Yields name, video, mask and later masks of every line."""
    for number, line in enumerate(whole_files.read_text(path, "a list of videos").splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InputError(f"{path}: line {number}: {error}") from error
        if not words:
            continue
        later = [re.fullmatch(r"(\d{1,9}):(.+)", word) for word in words[2:]]
        if len(words) < 2 or not all(later):
            raise InputError(
                f"{path}: line {number}: expected VIDEO MASK [FRAME:MASK ...], found {line!r}"
            )
        frames = [int(found[1]) for found in later]
        if len({*frames}) < len(frames):
            raise InputError(f"{path}: line {number}: expected one mask per frame, found two")
        source = path.parent / words[0]
        name = source.stem if source.suffix else source.name
        if name in ("", ".", ".."):
            raise InputError(f"{path}: line {number}: expected a video, found {words[0]!r}")
        yield (
            name,
            source,
            path.parent / words[1],
            {int(found[1]): path.parent / found[2] for found in later},
        )


def _in_tree(root: pathlib.Path) -> Iterator[Entry]:
    """Yields name, video, mask and later masks of every video below a folder."""
    for folder, subfolders, files in os.walk(root):
        subfolders.sort()
        masks = {file for file in files if pathlib.Path(file).suffix.lower() in _MASK_SUFFIXES}
        for file in sorted(
            [*files, *subfolders], key=lambda name: pictures.natural_key(pathlib.Path(name))
        ):
            path = pathlib.Path(folder) / file
            is_folder = file in subfolders
            stem = file if is_folder else path.stem
            own = sorted(mask for mask in masks if pathlib.Path(mask).stem == stem and mask != file)
            if file.startswith(".") or not own or path.suffix.lower() in _MASK_SUFFIXES:
                continue
            if not is_folder and path.suffix.lower() in pictures.IMAGE_SUFFIXES:
                continue  # A picture next to a mask of the same name, not a video.
            relative = path.relative_to(root).with_name(stem)
            later = {}
            for mask in masks:
                found = re.fullmatch(re.escape(stem) + r"\.(\d{1,9})\.\w+", mask)
                if found:
                    later[int(found[1])] = path.parent / mask
            yield relative.as_posix(), path, path.parent / own[0], later
