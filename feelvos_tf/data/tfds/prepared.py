"""Finds the record files of data sets prepared with TensorFlow Datasets.

tfds:davis/480p                                       the split "train"
tfds:davis/480p?split=validation&data_dir=/data/tfds
tfds:feelvos_videos/youtube_vos                       prepared by `feelvos_videos.py`
"""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from feelvos_tf.core.errors import InputError, first_line

PREFIX = "tfds:"
_OPTIONS = {"split", "data_dir"}


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
    unknown = set(options) - _OPTIONS
    if unknown:
        raise InputError(
            f"{pattern}: expected options {' and '.join(sorted(_OPTIONS))}, found {min(unknown)}"
        )
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
