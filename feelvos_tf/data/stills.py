"""A folder of photographs with object masks -> `VideoFiles` of one frame each.

ROOT/
  images/<name>.jpg
  masks/<name>.png      0 background, 1, 2, ... objects, 255 unknown
"""

from __future__ import annotations

import random
from pathlib import Path

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.datasets import VideoFiles

_SHUFFLE_SEED = 0


def list_stills(root: str | Path) -> list[VideoFiles]:
    """Returns the photographs of a folder, well mixed, always in the same order.

    Names often begin with the collection that a picture is from; training reads records in order,
    so they must not be sorted by name.

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


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Returns the files with one of the suffixes by their names without it."""
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
