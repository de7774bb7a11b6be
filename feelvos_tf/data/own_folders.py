"""Lists the videos and photographs in your own folders, as `VideoFiles`.

`list_folder` takes any tree of frames and masks. A folder with .jpg files is a video; its masks are
the .png files with the same names, in the same folder or in one whose path differs in one part:

    images/a/0.jpg      JPEGImages/480p/a/0.jpg      a/frames/0.jpg      a/0.jpg
    masks/a/0.png       Annotations/480p/a/0.png     a/masks/0.png       a/0.png

Names may also differ in words such as frame, image, mask and label; if the masks have such a word,
frames may be .png as well:

    a_frames/0.jpg      a/frame_0.jpg      a/images/0.png
    a_masks/0.png       a/mask_0.png       a/labels/0_mask.png

A mask holds 0 for background, 1, 2, ... for objects, and 255 for void; masks with only 0 and 255
show one object, and in color masks every color but black is an object. Frames without a mask are
skipped.

`list_stills` takes photographs with masks, which become one-frame videos:

    images/<name>.jpg
    masks/<name>.png
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.media import given_mask, masks, pictures, soft_edges

_FRAMES, _MASKS = (".jpg", ".jpeg"), (".png",)
_SHUFFLE_SEED = 0
_FRAME_WORDS = "frames?|images?|imgs?|jpegimages|jpe?gs?|pictures?|photos?|rgb"
_MASK_WORDS = "masks?|annotations?|labels?|segmentations?|seg|ground_?truth|gt"
Parts = tuple[str, ...]
Folders = dict[Parts, dict[str, Path]]


def list_folder(root: str | Path) -> list[VideoFiles]:
    """Returns the videos below a folder, with their masks, sorted by folder.

    Raises:
      InputError: there are none, or it is unclear which masks belong to a video.
    """
    root = Path(root)
    whole_files.check_is_folder(root, "a folder of frames and masks")
    frames, found_masks = _by_folder(root, _FRAMES), _by_folder(root, _MASKS)
    if not frames:
        frames, found_masks = _frames_and_masks(found_masks)
    if not frames or not found_masks:
        raise InputError(
            f"{root}: expected .jpg frames and .png masks below this folder, found "
            f"{len(frames)} folders of frames and {len(found_masks)} of masks"
        )
    videos = []
    for parts, files in sorted(frames.items()):
        mask_parts, pairs = _pairs(root, parts, files, found_masks)
        name = _name(parts, mask_parts) or root.resolve().name
        images, annotations = zip(*pairs)
        videos.append(VideoFiles(name, images, annotations, *_kind(annotations)))
    names = [video.name for video in videos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{root}: two folders of frames would both be the video {twice[0]!r}")
    return videos


def list_stills(root: str | Path) -> list[VideoFiles]:
    """Returns the photographs of a folder in a shuffled but reproducible order.

    Names often begin with the collection a picture comes from, and shards hold successive records:
    sorted by name, each shard would hold a single collection.

    Raises:
      InputError: a folder is missing or empty, or an image or mask lacks its partner.
    """
    found = datasets.in_folders(Path(root) / "images", Path(root) / "masks")
    stills = [VideoFiles(f.stem, (f,), (mask,)) for f, mask in zip(found.frames, found.masks)]
    stills.sort(key=lambda still: still.name)
    random.Random(_SHUFFLE_SEED).shuffle(stills)
    return stills


def _by_folder(root: Path, suffixes: tuple[str, ...]) -> Folders:
    """Returns folder (as path parts below `root`) -> stem -> file."""
    found = datasets.files_by_folder(root, suffixes)
    return {folder.parts: {path.stem: path for path in files} for folder, files in found.items()}


def _frames_and_masks(found: Folders) -> tuple[Folders, Folders]:
    """Splits .png files into frames and masks: the paths of masks contain a mask word."""
    split: tuple[Folders, Folders] = ({}, {})
    for parts, files in found.items():
        for stem, path in files.items():
            is_mask = any(_words(_MASK_WORDS).search(part) for part in (*parts, stem))
            split[is_mask].setdefault(parts, {})[stem] = path
    return split


def _pairs(
    root: Path, parts: Parts, frames: dict[str, Path], found: Folders
) -> tuple[Parts, list[tuple[Path, Path]]]:
    """Returns the mask folder that belongs to a frame folder, and (frame, mask) pairs."""
    candidates = {
        other: pairs
        for other, files in found.items()
        if len(other) == len(parts)
        and sum(a != b for a, b in zip(parts, other)) <= 1
        and (pairs := _of_one_name(root.joinpath(*parts), frames, files))
    }
    like = {o: p for o, p in candidates.items() if [*map(_bare, o)] == [*map(_bare, parts)]}
    candidates = {parts: like[parts]} if parts in like else like or candidates
    if len(candidates) != 1:
        what = " and ".join(str(root.joinpath(*c)) for c in candidates) or "none"
        raise InputError(
            f"{root.joinpath(*parts)}: expected one folder with masks of the same names, the same "
            f"folder or one whose path differs in one part, found {what}"
        )
    [result] = candidates.items()
    return result


def _of_one_name(
    folder: Path, frames: dict[str, Path], found: dict[str, Path]
) -> list[tuple[Path, Path]]:
    """Returns (frame, mask) pairs with the same name, or with names that differ in a known word."""
    if not frames.keys() & found.keys():
        frames, found = _by_bare_name(folder, frames), _by_bare_name(folder, found)
    stems = sorted(frames.keys() & found.keys(), key=lambda stem: pictures.natural_key(Path(stem)))
    return [(frames[stem], found[stem]) for stem in stems]


def _by_bare_name(folder: Path, files: dict[str, Path]) -> dict[str, Path]:
    bare: dict[str, Path] = {}
    for stem, path in files.items():
        other = bare.setdefault(_bare(stem), path)
        if other != path:
            raise InputError(
                f"{folder}: expected names that show which frame and mask belong together, found "
                f"{other.name} and {path.name}"
            )
    return bare


def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])({words})(?![a-z])", re.IGNORECASE)


def _bare(name: str) -> str:
    """Returns a name without words for frame or mask: `shot1` for `shot1_frames`."""
    bare = _words(f"{_FRAME_WORDS}|{_MASK_WORDS}").sub("", name)
    return re.sub(r"[ _.-]+", "_", bare).strip("_")


def _name(parts: Parts, mask_parts: Parts) -> str:
    """Returns a video's name: what the paths of its frames and masks have in common."""
    shared = [a if a == b else _bare(a) for a, b in zip(parts, mask_parts) if _bare(a) == _bare(b)]
    return "_".join(filter(None, shared))


def _kind(paths: tuple[Path, ...]) -> tuple[bool, dict[masks.Color, int]]:
    """Returns whether the masks hold only 0 and 255, and color -> id if they hold colors."""
    values: set[int] = set()
    colors: set[masks.Color] = set()
    for path in paths:
        pixels, _ = masks.read_pixels(path)
        if pixels.ndim == 3:
            colors |= set(map(tuple, np.unique(pixels.reshape(-1, 3), axis=0).tolist()))
        else:
            values |= set(np.unique(pixels).tolist())
        if not colors and values - {0, 255}:
            return False, {}
        if len(colors) > soft_edges.MOST_COLORS:
            raise InputError(
                f"{path}: expected one color per object, found {len(colors)} colors; save masks "
                "without antialiasing"
            )
    if not colors:
        return 255 in values, {}
    numbers = given_mask.ObjectNumbers()
    gray = {(value, value, value) for value in values}
    return False, {color: numbers.id_of(color) for color in sorted(colors | gray) if any(color)}
