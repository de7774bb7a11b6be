"""`dataset_info.json`: what is in a folder of records, and whether it still is.

{"train": {"source": {"dataset": "davis_2017", "split": "train", "resolution": "480p"},
           "videos": 60, "frames": 4209, "objects": 144, "sizes": {"854x480": 60},
           "sha256": "...",                       of the shards' checksums
           "shards": {"train-00000-of-00010.tfrecord":
                      {"sha256": "...", "videos": {"bear": {"frames": 82, "objects": [1]}}}}}}
"""

from __future__ import annotations

import collections
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feelvos_tf.core import atomic_files, json_file
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import record_shards, tfrecord_files
from feelvos_tf.data.record_shards import Shard

NAME = "dataset_info.json"


def write(output_dir: Path, split: str, shards: Sequence[Shard], source: Mapping[str, str]) -> Path:
    """Writes what the shards of a split hold, beside what is known of other splits.

    Args:
      output_dir: folder of the shards.
      split: their name.
      shards: all of them.
      source: where the videos are from.
    """
    path = output_dir / NAME
    splits = {**known(output_dir), split: _description(shards, source)}
    with atomic_files.replacing(path) as temporary:
        temporary.write_text(json.dumps(splits, indent=1) + "\n")
    return path


def known(output_dir: Path) -> dict[str, Any]:
    """Returns what the file in a folder says of each split; nothing where there is no file.

    Raises:
      InputError: the file is damaged.
    """
    path = output_dir / NAME
    if not path.exists():
        return {}
    what = "what tools/build_tfrecords.py wrote"
    splits = json_file.read(path, what)
    if not isinstance(splits, dict) or not all(map(_is_description, splits.values())):
        raise InputError(f"{path}: expected {what}, found other JSON")
    return splits


def verify(
    output_dir: Path,
    split: str,
    progress: Callable[[Iterable[str]], Iterable[str]] = lambda items: items,
) -> dict[str, Any]:
    """Reads every record and decodes every frame; returns what `write` wrote of the split.

    Args:
      output_dir: folder of the shards.
      split: their name.
      progress: wraps the shards' names, for a progress bar.

    Raises:
      InputError: a shard is missing, is not what was written, or cannot be read.
    """
    path = output_dir / NAME
    if not path.exists():
        raise InputError(
            f"{path}: expected what tools/build_tfrecords.py wrote, found no such file"
        )
    splits = known(output_dir)
    if split not in splits:
        raise InputError(f"{path}: expected the split {split!r}, found {', '.join(splits)}")
    shards = splits[split]["shards"]
    surplus = {p.name for p in output_dir.glob(f"{split}-*-of-*.tfrecord")} - set(shards)
    if surplus:
        raise InputError(f"{output_dir / min(surplus)}: {NAME} does not know this file")
    for name in progress(list(shards)):
        shard = output_dir / name
        if not shard.is_file():
            raise InputError(f"{shard}: expected a file of {NAME}, found no such file")
        tfrecord_files.find_damage(shard)
        if record_shards.sha256_of(shard) != shards[name]["sha256"]:
            raise InputError(
                f"{shard}: can be read, but is not the file that was written (its SHA-256 differs)"
            )
    return splits[split]


def _description(shards: Sequence[Shard], source: Mapping[str, str]) -> dict[str, Any]:
    videos = [video for shard in shards for video in shard.videos]
    sizes = collections.Counter(f"{video.width}x{video.height}" for video in videos)
    checksums = " ".join(shard.sha256 for shard in shards)
    return {
        "source": dict(source),
        "videos": len(videos),
        "frames": sum(video.frames for video in videos),
        "objects": sum(len(video.objects) for video in videos),
        "sizes": dict(sorted(sizes.items())),
        "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        "shards": {
            shard.path.name: {
                "sha256": shard.sha256,
                "videos": {
                    v.name: {"frames": v.frames, "objects": v.objects} for v in shard.videos
                },
            }
            for shard in shards
        },
    }


def _is_description(split: object) -> bool:
    """Tells whether this is what `_description` returns, as far as it is read again."""
    return (
        isinstance(split, dict)
        and all(isinstance(split.get(name), int) for name in ("videos", "frames", "objects"))
        and isinstance(split.get("shards"), dict)
        and all(isinstance(s, dict) and "sha256" in s for s in split["shards"].values())
    )
