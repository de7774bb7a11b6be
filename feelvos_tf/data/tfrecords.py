"""Writes and reads TFRecords: one `tf.train.SequenceExample` per video.

Field names are those of the 2019 release (`datasets/build_davis2017_data.py`), so its records and
ours are interchangeable:

    context        video_id                      bytes   name of the video
                   clip/frames                   int64   number of frames
                   image/format                  bytes   b"jpeg"
                   image/channels                int64   3
                   image/height, image/width     int64   pixels
                   segmentation/object/format    bytes   b"png"
                   segmentation/object/height    int64   pixels, equal to the image's
                   segmentation/object/width     int64
    feature lists  image/encoded                 bytes   one JPEG file per frame, byte for byte
                                                         (encoded anew where EXIF data turns it)
                   segmentation/object/encoded   bytes   one single-channel PNG of ids per frame

`tf.io.decode_png` turns palette PNGs, as DAVIS ships them, into colors: that is why the masks are
encoded anew.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.media import masks, pictures

_RECORD_HEADER_BYTES = 12  # length (uint64, little endian) and its checksum
_RECORD_FOOTER_BYTES = 4  # checksum of the data
_READ_BUFFER = 256 * 1024
_TURNED = range(2, 9)  # The orientations of EXIF that are not upright.


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
    """What one video holds; `objects` are the ids in its masks, sizes are in pixels."""

    name: str
    frames: int
    objects: list[int]
    height: int
    width: int


def parse(serialized: tf.Tensor) -> EncodedVideo:
    """Returns the encoded frames of a record, string []: ours, or of TensorFlow Datasets.

    The latter writes an `Example`, which on the wire is the context of a `SequenceExample`: one
    parser reads both.

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
        sequence_features={"image/encoded": several, "segmentation/object/encoded": several},
    )
    images = tf.concat([lists["image/encoded"], context["video/frames"].values], 0)
    masks = tf.concat(
        [lists["segmentation/object/encoded"], context["video/segmentations"].values], 0
    )
    has_frames = tf.debugging.Assert(tf.size(images) > 0, ["no frame of a video is in it"])
    with tf.control_dependencies([] if tf.executing_eagerly() else [has_frames]):
        name = tf.strings.join([context["video_id"], context["metadata/video_name"]])
    return EncodedVideo(name, images, masks)


def encode(sequence: VideoFiles) -> tf.train.SequenceExample:
    """Returns one video as a `SequenceExample`; see `encode_with_info`."""
    return encode_with_info(sequence)[0]


def encode_with_info(sequence: VideoFiles) -> tuple[tf.train.SequenceExample, VideoInfo]:
    """Returns one video as a `SequenceExample`, and what is in it.

    Raises:
      InputError: a file cannot be read, sizes differ, or no mask holds an object.
    """
    if None in sequence.masks:
        raise InputError(f"{sequence.name}: training records need a mask for every frame")
    images = [_read_jpeg(path) for path in sequence.frames]
    height, width = images[0].height, images[0].width
    for path, image in zip(sequence.frames, images):
        _check_size(path, (image.height, image.width), sequence.frames[0], (height, width))
    ids = [masks.read_mask(path, sequence.binary_masks) for path in sequence.masks]
    for path, frame_ids in zip(sequence.masks, ids):
        _check_size(path, frame_ids.shape, sequence.frames[0], (height, width))
    objects = sorted(set().union(*map(masks.object_ids, ids)))
    if not objects:
        raise InputError(f"{sequence.name}: no mask in {sequence.masks[0].parent} holds an object")
    example = _example(
        sequence.name, [i.encoded for i in images], [_png(i) for i in ids], height, width
    )
    return example, VideoInfo(sequence.name, len(images), [int(i) for i in objects], height, width)


def record_offsets(path: Path, note_damage: Callable[[str], None] | None = None) -> list[int]:
    """Returns where each record of a TFRecord file begins, found by hopping over their lengths.

    Args:
      path: of the file.
      note_damage: told of a file that ends inside a record, which then is left out.

    Raises:
      InputError: the file is missing or ends inside a record.
    """
    if not path.is_file():
        found = "a folder; name the files in it" if path.is_dir() else "no such file"
        raise InputError(f"{path}: expected a TFRecord file, found {found}")
    size, position, offsets = path.stat().st_size, 0, []
    with path.open("rb") as file:
        while position < size:
            offsets.append(position)
            file.seek(position)
            header = file.read(_RECORD_HEADER_BYTES)
            if len(header) == _RECORD_HEADER_BYTES:
                position += struct.unpack("<Q", header[:8])[0]
            position += _RECORD_HEADER_BYTES + _RECORD_FOOTER_BYTES
    if position == size:
        return offsets
    sentence = (
        f"{path}: the file ends inside record {len(offsets)} (is it a TFRecord file, copied whole?)"
    )
    if note_damage is None:
        raise InputError(sentence)
    note_damage(sentence)
    return offsets[:-1]


def read_record(path: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Returns the serialized record that begins at `offset` (int64 []) of a file, string [].

    Raises (when run):
      tf.errors.DataLossError: the record's checksum is not that of its bytes.
    """
    # What `tf.data.TFRecordDataset` is made of; the class itself always begins at byte 0.
    from_here = tf.raw_ops.TFRecordDatasetV2(
        filenames=[path], compression_type="", buffer_size=_READ_BUFFER, byte_offsets=[offset]
    )
    records = tf.data.experimental.from_variant(from_here, tf.TensorSpec([], tf.string))
    return records.take(1).get_single_element()


class _Jpeg(NamedTuple):
    encoded: bytes
    height: int
    width: int


def _read_jpeg(path: Path) -> _Jpeg:
    """Returns the file's bytes and size; decodes it once to be sure that it can be.

    TensorFlow does not look at EXIF data: what it turns is encoded anew, upright as in prediction.
    """
    with pictures.opened(path, "a JPEG image") as image:
        image.load()
        if image.format != "JPEG":
            raise InputError(f"{path}: expected a JPEG image, found {image.format}")
        if image.getexif().get(ExifTags.Base.Orientation) not in _TURNED:
            return _Jpeg(path.read_bytes(), image.height, image.width)
        upright, buffer = ImageOps.exif_transpose(image), io.BytesIO()
        upright.save(buffer, "JPEG", quality=95, subsampling=0)
        return _Jpeg(buffer.getvalue(), upright.height, upright.width)


def _check_size(path: Path, size: tuple[int, ...], first: Path, expected: tuple[int, int]) -> None:
    if tuple(size) != expected:
        raise InputError(
            f"{path} is {size[1]}x{size[0]} pixels, but {first} is {expected[1]}x{expected[0]}"
        )


def _png(ids: np.ndarray) -> bytes:
    """Returns ids [height, width] as a single-channel PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, format="PNG")
    return buffer.getvalue()


def _example(
    video_id: str, images: list[bytes], pngs: list[bytes], height: int, width: int
) -> tf.train.SequenceExample:
    context = {
        "video_id": _bytes(video_id.encode()),
        "clip/frames": _int64(len(images)),
        "image/format": _bytes(b"jpeg"),
        "image/channels": _int64(3),
        "image/height": _int64(height),
        "image/width": _int64(width),
        "segmentation/object/format": _bytes(b"png"),
        "segmentation/object/height": _int64(height),
        "segmentation/object/width": _int64(width),
    }
    lists = {
        "image/encoded": tf.train.FeatureList(feature=map(_bytes, images)),
        "segmentation/object/encoded": tf.train.FeatureList(feature=map(_bytes, pngs)),
    }
    return tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(feature_list=lists),
    )


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
