"""Unpacks data sets prepared with TensorFlow Datasets into folders with the layout of DAVIS 2017.

Programs that segment or score read frames and masks from files: `--dataset_root=tfds:davis/480p` is
unpacked once into ~/.cache/feelvos_tf/tfds (or below XDG_CACHE_HOME) and read from there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import tempfile

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.tfds import prepared


def folder_of(pattern: str, split: str) -> pathlib.Path:
    """Returns a data root whose list `ImageSets/2017/<split>.txt` holds the videos of a split.

    Args:
      pattern: such as "tfds:davis/480p", see `prepared`.
      split: used if the pattern names none; `val` also finds `validation`.

    Raises:
      InputError: the data set or split is missing, or cannot be unpacked.
    """
    files = prepared.record_files(pattern, split)
    digest = hashlib.sha256(split.encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "feelvos_tf/tfds" / digest.hexdigest()[:16]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            unfinished = pathlib.Path(temporary) / "data"
            _unpack(files, unfinished, split)
            try:
                unfinished.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # Otherwise, another process was faster.
    return folder


def _unpack(files: list[pathlib.Path], folder: pathlib.Path, split: str) -> None:
    """Writes frames and masks, byte for byte, and the list of videos."""
    import tensorflow as tf

    from feelvos_tf.data import tfrecords

    names = []
    for record in tf.data.TFRecordDataset([str(path) for path in files]):
        video = tfrecords.parse(record)
        name = video.video_id.numpy().decode()
        if name != pathlib.PurePath(name).name or name in ("", ".."):
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
