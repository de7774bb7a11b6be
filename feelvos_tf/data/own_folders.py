"""Lists the videos and photographs in your own folders, as `VideoFiles`.

`list_folder` takes any tree of frames and masks. A folder with .jpg files is a video; its masks are
the .png files of the same names, in the same folder or in one whose path differs in one part:

    images/a/0.jpg      JPEGImages/480p/a/0.jpg      a/frames/0.jpg      a/0.jpg
    masks/a/0.png       Annotations/480p/a/0.png     a/masks/0.png       a/0.png

A mask holds 0 for background, 1, 2, ... for objects, 255 for void; one with nothing but 0 and 255
is read as one object. Frames without a mask are left out.

`list_stills` takes photographs with masks, which become videos of one frame:

    images/<name>.jpg
    masks/<name>.png
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.media import masks

_FRAMES, _MASKS = (".jpg", ".jpeg"), (".png",)
_SHUFFLE_SEED = 0
Parts = tuple[str, ...]


def list_folder(root: str | Path) -> list[VideoFiles]:
    """Returns the videos below a folder that have masks, sorted by name.

    Raises:
      InputError: there is none, or it is unclear which masks belong to one.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of frames and masks, found none")
    frames, found_masks = _by_folder(root, _FRAMES), _by_folder(root, _MASKS)
    if not frames or not found_masks:
        raise InputError(
            f"{root}: expected .jpg frames and .png masks below this folder, found "
            f"{len(frames)} folders of frames and {len(found_masks)} of masks"
        )
    videos = [
        _video(root, parts, files, *_masks_of(root, parts, files, found_masks))
        for parts, files in sorted(frames.items())
    ]
    names = [video.name for video in videos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{root}: two folders of frames would both be the video {twice[0]!r}")
    return videos


def list_stills(root: str | Path) -> list[VideoFiles]:
    """Returns the photographs of a folder, shuffled, always in the same order.

    Names often begin with the collection that a picture is from, and shards hold successive
    records: sorted by name, each shard would hold one collection.

    Raises:
      InputError: a folder is missing or empty, or an image or mask lacks its partner.
    """
    images = _by_name(Path(root) / "images", (".jpg", ".jpeg"))
    masks = _by_name(Path(root) / "masks", (".png",))
    for found, wanted, what in ((images, masks, "mask"), (masks, images, "image")):
        alone = sorted(set(found) - set(wanted))
        if alone:
            raise InputError(
                f"{found[alone[0]]} has no {what} of the same name ({len(images)} images in "
                f"{Path(root) / 'images'}, {len(masks)} masks in {Path(root) / 'masks'})"
            )
    names = sorted(images)
    random.Random(_SHUFFLE_SEED).shuffle(names)
    return [VideoFiles(name, (images[name],), (masks[name],)) for name in names]


def _by_folder(root: Path, suffixes: tuple[str, ...]) -> dict[Parts, dict[str, Path]]:
    """Returns folder, as parts below `root` -> stem -> file."""
    found: dict[Parts, dict[str, Path]] = defaultdict(dict)
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        if path.suffix.lower() in suffixes and not any(part.startswith(".") for part in inside):
            found[inside[:-1]][path.stem] = path
    return dict(found)


def _masks_of(
    root: Path, parts: Parts, frames: dict[str, Path], found: dict[Parts, dict[str, Path]]
) -> tuple[Parts, dict[str, Path]]:
    """Returns the folder of the masks that belong to a folder of frames, and its files."""
    candidates = [
        other
        for other, files in found.items()
        if len(other) == len(parts)
        and sum(a != b for a, b in zip(parts, other)) <= 1
        and frames.keys() & files.keys()
    ]
    if parts in candidates:
        candidates = [parts]
    if len(candidates) != 1:
        what = " and ".join(str(root.joinpath(*c)) for c in candidates) or "none"
        raise InputError(
            f"{root.joinpath(*parts)}: expected one folder with masks of the same names, in the "
            f"same place or differing in one part of the path, found {what}"
        )
    return candidates[0], found[candidates[0]]


def _video(
    root: Path,
    parts: Parts,
    frames: dict[str, Path],
    mask_parts: Parts,
    found: dict[str, Path],
) -> VideoFiles:
    """Returns a video of the frames that have masks, named by the common part of both paths."""
    shared = [a for a, b in zip(parts, mask_parts) if a == b]
    stems = [stem for stem in frames if stem in found]
    chosen = tuple(found[stem] for stem in stems)
    return VideoFiles(
        "_".join(shared) or root.resolve().name,
        tuple(frames[stem] for stem in stems),
        chosen,
        binary_masks=_are_binary(chosen),
    )


def _are_binary(paths: tuple[Path, ...]) -> bool:
    """Returns whether the masks hold nothing but 0 and 255, as those of one object often do."""
    values = set()
    for path in paths:
        values |= set(np.unique(masks.read_mask(path)).tolist())
        if values - {0, 255}:
            return False
    return 255 in values


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Returns stem -> file of those with one of the suffixes."""
    if not folder.is_dir():
        raise InputError(f"folder of stills {folder} does not exist or is no folder")
    found = {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    }
    if not found:
        raise InputError(f"{folder} holds no {suffixes[0]} file")
    return found
