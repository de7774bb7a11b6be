"""Finds the record files of data sets prepared with TensorFlow Datasets, or unpacks them.

tfds:davis/480p                                       the split "train"
tfds:davis/480p?split=validation&data_dir=/data/tfds
tfds:feelvos_videos/youtube_vos                       prepared by `feelvos_videos.py`

Training reads the records. Programs that segment or score read frames and masks from files:
`--dataset_root=tfds:davis/480p` is unpacked once into ~/.cache/feelvos_tf/tfds (or below
XDG_CACHE_HOME), with the layout of DAVIS 2017, and read from there.
"""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from pathlib import Path, PurePath

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError, first_line
from feelvos_tf.data import datasets

PREFIX = "tfds:"


def is_prepared(pattern: str) -> bool:
    """Returns whether a pattern of records names a data set of TensorFlow Datasets, not files."""
    return pattern.startswith(PREFIX)


def record_files(pattern: str, split: str = "train") -> list[Path]:
    """Returns the record files of a data set's split, in order.

    Args:
      pattern: such as "tfds:davis/480p?split=train".
      split: used if the pattern names none; `val` also finds `validation`.

    Raises:
      InputError: the library or the data set is missing, or not prepared.
    """
    name, _, query = pattern[len(PREFIX) :].partition("?")
    options = dict(urllib.parse.parse_qsl(query))
    datasets.check_names(f"{pattern}: options", options, ("data_dir", "split"))
    builder = _builder(pattern, name, options.get("data_dir"))
    split = options.get("split", split)
    splits = builder.info.splits
    if split == "val" and split not in splits:
        split = "validation"
    if split not in splits:
        there = ", ".join(splits) or "none: it is not prepared, see feelvos_tf/data/README.md"
        elsewhere = "; download its folders from DAVIS" if "test" in split and splits else ""
        raise InputError(f"{pattern}: expected the split {split!r}, found {there}{elsewhere}")
    paths = [Path(path) for path in splits[split].filepaths]
    for path in paths:
        if ".tfrecord" not in path.name:
            raise InputError(f"{path}: expected a TFRecord file, found another format")
    return paths


def folder_of(pattern: str, split: str) -> Path:
    """Returns a data root whose list `ImageSets/2017/<split>.txt` holds the videos of a split.

    Args:
      pattern: such as "tfds:davis/480p", see above.
      split: used if the pattern names none; `val` also finds `validation`.

    Raises:
      InputError: the data set or split is missing, or cannot be unpacked.
    """
    files = record_files(pattern, split)
    digest = hashlib.sha256(split.encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "feelvos_tf/tfds" / digest.hexdigest()[:16]
    if not folder.is_dir():
        try:
            with atomic_files.new_folder(folder) as unfinished:
                _unpack(files, unfinished, split)
        except InputError:
            if not folder.exists():  # Otherwise, another process was faster.
                raise
    return folder


def _builder(pattern: str, name: str, data_dir: str | None):
    try:
        import tensorflow_datasets as tfds

        from feelvos_tf.data.tfds import feelvos_videos  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{pattern}: expected TensorFlow Datasets, found none ({error}); "
            "install feelvos_tf[tfds]"
        ) from error
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise InputError(
            f"{pattern}: expected a data set of that name ({first_line(error)})"
        ) from error


def _unpack(files: list[Path], folder: Path, split: str) -> None:
    """Writes frames and masks, byte for byte, and the list of videos."""
    import tensorflow as tf

    from feelvos_tf.data import tfrecords

    names = []
    for record in tf.data.TFRecordDataset([str(path) for path in files]):
        video = tfrecords.parse(record)
        name = video.video_id.numpy().decode()
        if name != PurePath(name).name or name in ("", ".."):
            raise InputError(f"{files[0]}: expected videos with names, found {name!r}")
        parts = (("JPEGImages", "jpg", video.images), ("Annotations", "png", video.masks))
        for kind, suffix, encoded in parts:
            place = folder / kind / "480p" / name
            place.mkdir(parents=True)
            for number, data in enumerate(encoded.numpy()):
                (place / f"{number:05d}.{suffix}").write_bytes(data)
        names.append(name)
    lists = folder / "ImageSets/2017"
    lists.mkdir(parents=True)
    (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in sorted(names)))
