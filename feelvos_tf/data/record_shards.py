"""Writes, describes and verifies the shards of a data set.

OUTPUT/
  train-00000-of-00010.tfrecord ...   appear together once all are complete
  dataset_info.json                   their contents
  .writing-train/                     during writing: the complete shards, and one in progress

dataset_info.json:

{"train": {"source": {"dataset": "davis_2017", "split": "train", "resolution": "480p"},
           "videos": 60, "frames": 4209, "objects": 144, "sizes": {"854x480": 60},
           "sha256": "...",                       (of the shards' checksums)
           "shards": {"train-00000-of-00010.tfrecord":
                      {"sha256": "...", "videos": {"bear": {"frames": 82, "objects": [1]}}}}}}
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from feelvos_tf.core import atomic_files, cli, whole_files, working_folder
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import corrupt_records, datasets, tfrecords
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.data.tfrecords import VideoInfo

INFO = "dataset_info.json"
_PLAN, _NOTE = "plan", ".json"
Progress = Callable[[Iterable[VideoFiles]], Iterable[VideoFiles]]


class Shard(NamedTuple):
    """A complete record file.

    Attributes:
      path: the file.
      sha256: hexadecimal SHA-256 of its bytes.
      videos: its contents, in order.
    """

    path: Path
    sha256: str
    videos: list[VideoInfo]


def write_shards(
    sequences: Sequence[VideoFiles],
    output_dir: Path,
    split: str,
    num_shards: int = 10,
    progress: Progress = lambda items: items,
    workers: int = 1,
) -> list[Shard]:
    """Writes `<split>-00000-of-00010.tfrecord`, ..., all or none, and returns the shards.

    Every sequence goes into exactly one shard; with fewer sequences than shards some files are
    empty. (The 2019 release rounds the shard size and can lose videos.) The same sequences give the
    same bytes. The same call resumes a killed run. Finished shards are never replaced by others: a
    training run that resumes would silently continue on other videos.

    Args:
      sequences: the videos, each with a mask for every frame.
      output_dir: created if missing; a failure removes it again.
      split: first part of the file names.
      num_shards: number of files.
      progress: wraps the remaining sequences, for a progress bar.
      workers: threads that read and encode.

    Raises:
      InputError: a video cannot be encoded, other shards of this split already exist, another
        process is writing them, or `dataset_info.json` is corrupt.
    """
    if not sequences:
        raise InputError("there are no sequences to write")
    names = [f"{split}-{i:05d}-of-{num_shards:05d}.tfrecord" for i in range(num_shards)]
    _refuse_other_shards(output_dir, split, names)
    _refuse_other_videos(output_dir, split, sequences)
    missing = [path for path in (output_dir, *output_dir.parents) if not path.exists()]
    folder = output_dir / f".writing-{split}"
    in_use = f"{output_dir}: another process is writing records of {split!r} there; wait for it"
    plan = _plan(sequences, num_shards)
    lock = working_folder.locked(folder, in_use, named=output_dir)
    with lock, _kept_when_interrupted(folder, missing):
        noted = folder / _PLAN
        if not noted.is_file() or noted.read_text() != plan:
            working_folder.empty(folder)
            noted.write_text(plan)
        shards = _write(sequences, [folder / name for name in names], progress, workers)
        _refuse_other_bytes(output_dir, split, shards)
        return [s._replace(path=s.path.replace(output_dir / s.path.name)) for s in shards]


@contextlib.contextmanager
def _kept_when_interrupted(folder: Path, created: Sequence[Path]) -> Iterator[None]:
    """Removes the folder at the end, but keeps it after Ctrl-C so that the same call resumes.

    Args:
      folder: of the unfinished shards.
      created: the folders around it that did not exist before, innermost first; those that are
        empty, as after a failure, are removed as well.
    """
    is_interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        is_interrupted = True
        raise
    finally:
        if not is_interrupted:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                for path in created:
                    path.rmdir()


def _plan(sequences: Sequence[VideoFiles], num_shards: int) -> str:
    """Returns a digest that changes whenever the shards would."""
    digest = hashlib.sha256(str(num_shards).encode())
    for sequence in sequences:
        digest.update(f"{sequence.name} {sequence.binary_masks}".encode())
        for path in (*sequence.frames, *filter(None, sequence.masks)):
            status = path.stat()
            digest.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _write(
    sequences: Sequence[VideoFiles], paths: list[Path], progress: Progress, workers: int
) -> list[Shard]:
    """Writes sequence i of n into shard i * len(paths) // n."""
    parts: list[list[VideoFiles]] = [[] for _ in paths]
    for index, sequence in enumerate(sequences):
        parts[index * len(paths) // len(sequences)].append(sequence)
    finished = [_finished(path) for path in paths]
    left = [s for part, shard in zip(parts, finished) if shard is None for s in part]
    records = _encoded(progress(left), workers)
    return [
        shard or _write_shard(path, itertools.islice(records, len(part)))
        for path, part, shard in zip(paths, parts, finished)
    ]


def _write_shard(path: Path, records: Iterable[tuple[bytes, VideoInfo]]) -> Shard:
    """Writes a shard, which gets its name only once it is complete."""
    videos = []
    with (
        atomic_files.replacing(path) as temporary,
        tf.io.TFRecordWriter(str(temporary)) as writer,
    ):
        for serialized, info in records:
            writer.write(serialized)
            videos.append(info)
    shard = Shard(path, whole_files.sha256_of(path), videos)
    atomic_files.write_text(path.with_suffix(_NOTE), json.dumps([shard.sha256, videos]))
    return shard


def _finished(path: Path) -> Shard | None:
    """Returns a shard that an earlier run finished, None if there is none."""
    note = path.with_suffix(_NOTE)
    if not note.is_file() or not path.is_file():
        return None
    sha256, videos = json.loads(note.read_text())
    return Shard(path, sha256, [VideoInfo(*video) for video in videos])


def _encoded(sequences: Iterable[VideoFiles], workers: int) -> Iterator[tuple[bytes, VideoInfo]]:
    """Yields the records in the order of the sequences, encoding a few ahead."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        pending: collections.deque = collections.deque()
        for sequence in sequences:
            pending.append(pool.submit(_encode, sequence))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _encode(sequence: VideoFiles) -> tuple[bytes, VideoInfo]:
    example, info = tfrecords.encode(sequence)
    # Without it, the order of a protocol buffer's maps differs from process to process.
    return example.SerializeToString(deterministic=True), info


def write_info(
    output_dir: Path, split: str, shards: Sequence[Shard], source: Mapping[str, str]
) -> None:
    """Writes the contents of a split's shards to `dataset_info.json`, keeping other splits.

    `source` describes where the videos come from.
    """
    splits = {**read_info(output_dir), split: _description(shards, source)}
    atomic_files.write_text(output_dir / INFO, json.dumps(splits, indent=1) + "\n")


def read_info(output_dir: Path) -> dict[str, Any]:
    """Returns the description of each split in `dataset_info.json`; empty if there is no such file.

    Raises:
      InputError: the file is corrupt.
    """
    path = output_dir / INFO
    if not path.exists():
        return {}
    what = "a file written by tools/build_tfrecords.py"
    splits = whole_files.read_json(path, what)
    if not isinstance(splits, dict) or not all(map(_is_description, splits.values())):
        raise InputError(f"{path}: expected {what}, found other JSON")
    return splits


def verify(
    output_dir: Path,
    split: str,
    progress: Callable[[Iterable[str]], Iterable[str]] = lambda items: items,
) -> dict[str, Any]:
    """Reads every record and decodes every frame; returns the split's description (`write_info`).

    Args:
      output_dir: folder of the shards.
      split: name of the split.
      progress: wraps the shards' names, for a progress bar.

    Raises:
      InputError: a shard is missing, cannot be read, or differs from what was written.
    """
    whole_files.check_is_file(output_dir / INFO, "a file written by tools/build_tfrecords.py")
    splits = read_info(output_dir)
    datasets.check_names(f"splits in {output_dir / INFO}", [split], list(splits))
    shards = splits[split]["shards"]
    surplus = {p.name for p in output_dir.glob(f"{split}-*-of-*.tfrecord")} - set(shards)
    if surplus:
        raise InputError(f"{output_dir / min(surplus)}: {INFO} does not list this file")
    for name in progress(list(shards)):
        shard = output_dir / name
        whole_files.check_is_file(shard, f"a shard of {INFO}")
        corrupt_records.check_file(shard)
        if whole_files.sha256_of(shard) != shards[name]["sha256"]:
            raise InputError(
                f"{shard}: readable, but is not the file that was written (its SHA-256 differs)"
            )
    return splits[split]


def _refuse_other_shards(output_dir: Path, split: str, names: list[str]) -> None:
    """Raises InputError if a pattern like `train-*.tfrecord` would match files of another run."""
    for path in sorted(output_dir.glob(f"{split}-*-of-*.tfrecord")):
        if path.name not in names:
            raise InputError(f"{path} belongs to another set of shards: {_ways_out(split)}")


def _refuse_other_videos(output_dir: Path, split: str, sequences: Sequence[VideoFiles]) -> None:
    """Raises InputError, before any encoding, if the finished shards hold other videos."""
    info = read_info(output_dir).get(split)
    if info is None or not any((output_dir / name).exists() for name in info["shards"]):
        return
    found = [name for shard in info["shards"].values() for name in shard["videos"]]
    chosen = [sequence.name for sequence in sequences]
    frames = sum(len(sequence.frames) for sequence in sequences)
    if (found, info["frames"]) != (chosen, frames):
        others = sorted(set(found) ^ set(chosen))
        raise InputError(
            f"{output_dir}: expected records of the {cli.count(len(chosen), 'videos')} of "
            f"{cli.count(frames, 'frames')} chosen, found {cli.count(len(found), 'videos')} of "
            f"{cli.count(info['frames'], 'frames')}"
            f"{f' (only one of them has {others[0]!r})' if others else ''}; {_ways_out(split)}"
        )


def _refuse_other_bytes(output_dir: Path, split: str, shards: Sequence[Shard]) -> None:
    """Raises InputError if a finished shard differs from its new version."""
    for shard in shards:
        path = output_dir / shard.path.name
        if path.is_file() and whole_files.sha256_of(path) != shard.sha256:
            raise InputError(
                f"{path}: expected the bytes that the chosen videos and settings give, found "
                f"others; {_ways_out(split)}"
            )


def _ways_out(split: str) -> str:
    return f"choose another output folder, or delete the files {split}-*.tfrecord in this one"


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
    """Returns whether `split` has the parts of a `_description` that are read back."""
    return (
        isinstance(split, dict)
        and all(isinstance(split.get(name), int) for name in ("videos", "frames", "objects"))
        and isinstance(split.get("shards"), dict)
        and all(
            isinstance(s, dict) and "sha256" in s and isinstance(s.get("videos"), dict)
            for s in split["shards"].values()
        )
    )
