"""Writes and reads TFRecords: one `tf.train.SequenceExample` per video.

Field names are those of the 2019 release (`datasets/build_davis2017_data.py`), so its records and
ours are interchangeable. (For DAVIS 2016 it calls the masks `segmentation/class/encoded`; both
names are read.)

    context        video_id                      bytes   name of the video
                   clip/frames                   int64   number of frames
                   image/format                  bytes   b"jpeg"
                   image/channels                int64   3
                   image/height, image/width     int64   pixels
                   segmentation/object/format    bytes   b"png"
                   segmentation/object/height    int64   pixels, equal to the image's
                   segmentation/object/width     int64
    feature lists  image/encoded                 bytes   one JPEG file per frame, byte for byte
                                                         (re-encoded if it is a PNG, or if EXIF
                                                         data rotates it)
                   segmentation/object/encoded   bytes   one single-channel PNG of ids per frame

Masks are re-encoded because `tf.io.decode_png` turns palette PNGs, which DAVIS ships, into colors.
"""

from __future__ import annotations

import glob
import io
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.data.tfds import prepared
from feelvos_tf.media import masks, pictures

# The 2019 release uses the second name for DAVIS 2016.
_MASKS = ("segmentation/object/encoded", "segmentation/class/encoded")
_READ_BUFFER = 256 * 1024
# A record is its length (uint64, little endian), the length's checksum, its bytes, their checksum.
_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4
_HEADER_BYTES = _LENGTH_BYTES + _CHECKSUM_BYTES
_BLOCK = 1 << 20
_ROTATED = range(2, 9)  # EXIF orientations other than upright.


class EncodedVideo(NamedTuple):
    """One parsed record; nothing is decoded yet.

    Attributes:
      video_id: string [].
      images: JPEG files, string [frames].
      masks: PNG files of object ids, string [frames].
    """

    video_id: tf.Tensor
    images: tf.Tensor
    masks: tf.Tensor


class VideoInfo(NamedTuple):
    """Description of one video; `objects` are the ids in its masks, sizes are in pixels."""

    name: str
    frames: int
    objects: list[int]
    height: int
    width: int


def parse(serialized: tf.Tensor) -> EncodedVideo:
    """Returns the encoded frames of a serialized record, ours or TensorFlow Datasets'.

    TensorFlow Datasets writes an `Example`, which on the wire is the context of a
    `SequenceExample`: one parser reads both.

    Args:
      serialized: string [].

    Raises (when run):
      tf.errors.InvalidArgumentError: the record holds no video.
    """
    text = tf.io.FixedLenFeature([], tf.string, default_value="")
    several = tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
    context, lists = tf.io.parse_single_sequence_example(
        serialized,
        context_features={
            "video_id": text,
            "metadata/video_name": text,
            "video/frames": tf.io.VarLenFeature(tf.string),
            "video/segmentations": tf.io.VarLenFeature(tf.string),
        },
        sequence_features=dict.fromkeys(("image/encoded", *_MASKS), several),
    )
    images = tf.concat([lists["image/encoded"], context["video/frames"].values], 0)
    masks = tf.concat([*(lists[name] for name in _MASKS), context["video/segmentations"].values], 0)
    tf.debugging.Assert(tf.size(images) > 0, ["it has no video frames"])
    name = tf.strings.join([context["video_id"], context["metadata/video_name"]])
    return EncodedVideo(name, images, masks)


def decode_frame(
    image: tf.Tensor, mask: tf.Tensor, dct_method: str = ""
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (image uint8 [height, width, 3], object ids uint8 [height, width]).

    Args:
      image: JPEG file, string [].
      mask: single-channel PNG file, string [].
      dct_method: of `tf.io.decode_jpeg`. TensorFlow's default is fast and differs from the exact
        "INTEGER_ACCURATE", which OpenCV and Pillow use, by 1 on average and up to 8 of 255.

    Raises (when run):
      tf.errors.InvalidArgumentError: corrupt file, palette or color mask, or sizes that differ.
    """
    pixels = tf.io.decode_jpeg(image, channels=3, dct_method=dct_method)
    # channels=0 keeps the stored channels; channels=1 would silently turn a palette into gray.
    ids = tf.ensure_shape(tf.io.decode_png(mask, channels=0), [None, None, 1])[..., 0]
    tf.debugging.assert_equal(tf.shape(pixels)[:2], tf.shape(ids), "image and mask differ in size")
    return pixels, ids


def encode(sequence: VideoFiles) -> tuple[tf.train.SequenceExample, VideoInfo]:
    """Returns one video as a `SequenceExample`, and its description.

    Raises:
      InputError: a file cannot be read, sizes differ, or no mask holds an object.
    """
    if None in sequence.masks:
        raise InputError(f"{sequence.name}: training records need a mask for every frame")
    images, sizes = zip(*map(_read_jpeg, sequence.frames))
    how = sequence.binary_masks, sequence.mask_colors
    ids = [masks.read_annotation(path, *how) for path in sequence.masks]
    paths = (*sequence.frames, *sequence.masks)
    height, width = sizes[0]
    for path, size in zip(paths, [*sizes, *(each.shape for each in ids)]):
        pictures.check_same_size(path, size, sizes[0], str(paths[0]))
    objects = sorted(set().union(*map(masks.object_ids, ids)))
    if not objects:
        raise InputError(f"{sequence.name}: no mask in {sequence.masks[0].parent} holds an object")
    example = _example(sequence.name, images, map(_png, ids), height, width)
    return example, VideoInfo(sequence.name, len(images), objects, height, width)


def as_list(patterns: str | Sequence[str]) -> list[str]:
    """Returns a list of patterns, one per data set."""
    return [patterns] if isinstance(patterns, str) else list(patterns)


def find_videos(
    pattern: str, on_corrupt: Callable[[str], None] | None = None
) -> list[tuple[str, int]]:
    """Returns the file of each video, and the byte at which its record begins there.

    Args:
      pattern: glob pattern of files, or a data set of TensorFlow Datasets: see `tfds/prepared.py`.
      on_corrupt: see `record_offsets`.

    Raises:
      InputError: no file matches, a file ends inside a record, or all are empty.
    """
    if prepared.is_prepared(pattern):
        paths = [str(path) for path in prepared.record_files(pattern)]
    else:
        paths = sorted(glob.glob(pattern))
    if not paths:
        raise InputError(f"no training records match {pattern}")
    videos = [(p, offset) for p in paths for offset in record_offsets(Path(p), on_corrupt)]
    if not videos:
        raise InputError(f"the training records {pattern} hold no videos")
    return videos


def record_offsets(path: Path, on_corrupt: Callable[[str], None] | None = None) -> list[int]:
    """Returns the byte at which each record of a TFRecord file begins.

    Args:
      path: the file.
      on_corrupt: called with a message, instead of raising, for a record with a corrupt length or
        one inside which the file ends; that record is skipped.

    Raises:
      InputError: the file is missing, ends inside a record, or holds a corrupt length.
    """
    whole_files.check_is_file(path, "a TFRecord file")
    size, position, offsets = path.stat().st_size, 0, []
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(_HEADER_BYTES)
            end = _end(position, header)
            if end is not None and end <= size:
                offsets.append(position)
                position = end
                continue
            what = f"the file ends inside record {len(offsets) + 1}"
            if end is None and len(header) == _HEADER_BYTES:
                what = f"the length of record {len(offsets) + 1} is corrupt"
            message = f"{path}: {what} (is it a complete TFRecord file?)"
            if on_corrupt is None:
                raise InputError(message)
            on_corrupt(message)
            position = _next(file, position + 1, size)
    return offsets


def read_record(path: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Returns the serialized record that begins at byte `offset` (int64 []) of a file, string [].

    Raises (when run):
      tf.errors.DataLossError: the record's checksum does not match its bytes.
    """
    # The operation behind `tf.data.TFRecordDataset`, a class that always starts at byte 0.
    from_here = tf.raw_ops.TFRecordDatasetV2(
        filenames=[path], compression_type="", buffer_size=_READ_BUFFER, byte_offsets=[offset]
    )
    records = tf.data.experimental.from_variant(from_here, tf.TensorSpec([], tf.string))
    return records.take(1).get_single_element()


def _end(position: int, header: bytes) -> int | None:
    """Returns where a record ends; None if its length does not match its checksum."""
    if len(header) < _HEADER_BYTES:
        return None
    length, checksum = struct.unpack("<QI", header)
    [expected] = _checksums(np.frombuffer(header, np.uint8)[None, :_LENGTH_BYTES])
    return None if checksum != expected else position + _HEADER_BYTES + length + _CHECKSUM_BYTES


def _next(file: BinaryIO, position: int, size: int) -> int:
    """Returns the start of the next complete record from `position` on; `size` if there is none."""
    while position + _HEADER_BYTES <= size:
        file.seek(position)
        block = np.frombuffer(file.read(_BLOCK + _HEADER_BYTES - 1), np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(block, _HEADER_BYTES)
        found = np.ascontiguousarray(windows[:, _LENGTH_BYTES:]).view("<u4")[:, 0]
        for place in np.flatnonzero(found == _checksums(windows[:, :_LENGTH_BYTES])):
            if _end(position + int(place), windows[place].tobytes()) <= size:
                return position + int(place)
        position += len(windows)
    return size


def _checksums(lengths: np.ndarray) -> np.ndarray:
    """Returns TFRecord's masked CRC-32C of lengths, uint8 [n, 8] -> uint32 [n]."""
    crc = np.full(len(lengths), 0xFFFFFFFF, np.uint32)
    for column in lengths.T:
        crc = _TABLE[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc = ~crc
    return (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)


def _table() -> np.ndarray:
    """Returns the CRC-32C lookup table, uint32 [256]."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(0x82F63B78), values >> 1)
    return values.astype(np.uint32)


_TABLE = _table()


def _read_jpeg(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Returns the image as a JPEG, and (height, width), after decoding the file once as a check.

    TensorFlow ignores EXIF data, so rotated images are re-encoded upright, as in prediction. PNGs
    are re-encoded as well.
    """
    with pictures.opened(path, "a JPEG or PNG image", ("JPEG", "PNG")) as image:
        # In this order: to look for EXIF data, PIL decodes a PNG.
        if image.format == "JPEG" and (
            image.getexif().get(ExifTags.Base.Orientation) not in _ROTATED
        ):
            image.load()
            return path.read_bytes(), (image.height, image.width)
    upright, buffer = pictures.read_image(path), io.BytesIO()
    Image.fromarray(upright).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue(), upright.shape[:2]


def _png(ids: np.ndarray) -> bytes:
    """Returns ids [height, width] as a single-channel PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, format="PNG")
    return buffer.getvalue()


def _example(
    video_id: str, images: Sequence[bytes], pngs: Iterable[bytes], height: int, width: int
) -> tf.train.SequenceExample:
    example = tf.train.SequenceExample()
    fields = {
        "video_id": video_id.encode(),
        "image/format": b"jpeg",
        "segmentation/object/format": b"png",
        "clip/frames": len(images),
        "image/channels": 3,
        "image/height": height,
        "image/width": width,
        "segmentation/object/height": height,
        "segmentation/object/width": width,
    }
    for name, value in fields.items():
        feature = example.context.feature[name]
        values = feature.bytes_list if isinstance(value, bytes) else feature.int64_list
        values.value.append(value)
    for name, files in {"image/encoded": images, _MASKS[0]: pngs}.items():
        for file in files:
            example.feature_lists.feature_list[name].feature.add().bytes_list.value.append(file)
    return example
