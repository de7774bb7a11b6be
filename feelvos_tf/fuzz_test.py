"""2,000 damaged files: each is either accepted or refused in one sentence.

No other exception, no hang, and nothing written outside the folder for results.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import signal
from typing import Any

import av
import gin
import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image

from feelvos_tf import configurables  # noqa: F401
from feelvos_tf.core import gin_settings, whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import corrupt_records, datasets, tfrecords
from feelvos_tf.inference import input_video, many_videos, model_loading
from feelvos_tf.media import (
    given_mask,
    live_frames,
    mask_folder,
    masks,
    pictures,
    rle,
    video,
)
from feelvos_tf.media.selection import Selection
from feelvos_tf.testing import drawn_videos

SECONDS = 20
QUICK, ALL = 200, 2000

_INTERESTING = (0, 1, 2, 127, 128, 254, 255)
_TEXTS = ("", ".", "..", "../..", "/etc/passwd", "a\0b", "\ud800", "-1", "0", "255", "300", "1e9")
_VALUES = (
    None,
    True,
    0,
    -1,
    255,
    300,
    2**31,
    2**70,
    1e308,
    float("nan"),
    [],
    {},
    [[[[]]]],
    *_TEXTS,
)


def image_bytes(image, format_name, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format_name, **options)
    return buffer.getvalue()


def video_bytes(folder, suffix, codec, pixels):
    path = folder / f"seed.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 80, 48, pixels
        for number in range(4):
            image, _ = drawn_videos.draw(number, [1, 2])
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def annotations(ids):
    runs = [rle.encode(ids == value) for value in (1, 2)]
    entries = [{"segmentation": run, "object_id": 1 + i} for i, run in enumerate(runs)]
    images = [{"id": 1, "height": 48, "width": 80}]
    polygon = {"label": "dog", "points": [[5, 10], [20, 10], [20, 30]], "shape_type": "polygon"}
    patch = base64.b64encode(image_bytes(np.full((9, 9), 255, np.uint8), "PNG")).decode()
    inside = {"label": "4", "points": [[5, 10]], "shape_type": "mask", "mask": patch}
    coco = {"annotations": entries, "images": images}
    labelme = {"shapes": [polygon, inside], "imageHeight": 48, "imageWidth": 80}
    return [json.dumps(tree).encode() for tree in (coco, entries, runs[0], labelme)]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Returns reader -> intact files, which it will read once they are damaged."""
    folder = tmp_path_factory.mktemp("seeds")
    image, ids = drawn_videos.draw(0, [1, 2])
    masks.write_mask(folder / "mask.png", ids)
    indexed = (folder / "mask.png").read_bytes()
    colored = [
        image_bytes(masks.DAVIS_PALETTE[ids], name) for name in ("PNG", "BMP", "GIF", "TIFF")
    ]
    photographs = [image_bytes(image, name) for name in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 3, "a phone"
    turned = [image_bytes(image, name, exif=exif) for name in ("JPEG", "PNG", "WEBP", "TIFF")]
    deep = image_bytes(ids.astype(np.uint16) * 9000, "PNG")
    videos = [
        video_bytes(folder, *kind)
        for kind in (
            ("mp4", "libx264", "yuv420p"),
            ("mkv", "libx264", "yuv420p"),
            ("avi", "mjpeg", "yuvj420p"),
            ("webm", "libvpx-vp9", "yuv420p"),
            ("gif", "gif", "rgb8"),
            ("mov", "mpeg4", "yuv420p"),
            ("ts", "mpeg2video", "yuv420p"),
            ("flv", "flv1", "yuv420p"),
        )
    ]
    names = [f"{frame:05d}" for frame in range(2)]
    meta = {"videos": {"bear": {"objects": {"1": {"frames": names}, "2": {"frames": names[1:]}}}}}
    with contextlib.suppress(RuntimeError), mask_folder.replacing(folder / "out", {}) as working:
        masks.write_mask(working / "00000.png", ids)
        mask_folder.save_state(working, 0, {"ids": ids})
        stamp, saved = ((working / n).read_bytes() for n in (mask_folder.STAMP, mask_folder.STATE))
        raise RuntimeError
    return {
        read_annotation: [indexed],
        read_given: [indexed, *colored, *annotations(ids)],
        read_image: [*photographs, *turned, deep],
        read_frame_of_record: [photographs[0], turned[0]],
        read_settings: [(model_loading.BUNDLED / model_loading.SETTINGS).read_bytes()],
        read_video: videos,
        read_pipe: [videos[1], videos[-2], b"".join(photographs[:1] * 3)],
        read_stamp: [stamp],
        read_state: [saved],
        read_split: [b"bear\nboat\n", b"/JPEGImages/480p/bear/00000.jpg /Annotations/x.png\n"],
        read_meta: [json.dumps(meta).encode()],
        read_list: [b"a.mp4 a.png 2:b.png\n'b c.mp4' b.json\n"],
        read_records: [record_bytes(folder)],
        read_weights: [weights_bytes(folder)],
        read_gin: [b"Trainer.steps = 3\nimport feelvos_tf\ninclude 'a.gin'\n"],
    }


def record_bytes(folder):
    root = drawn_videos.write_davis(folder / "davis", {"bear": [1]}, 2)
    [files] = datasets.list_sequences(root)
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        writer.write(tfrecords.encode(files)[0].SerializeToString())
    return (folder / "a.tfrecord").read_bytes()


def weights_bytes(folder):
    np.savez(folder / "weights.npz", kernel=np.ones((3, 3), np.float32), bias=np.ones(3))
    return (folder / "weights.npz").read_bytes()


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read_annotation(folder, content):
    masks.read_annotation(put(folder, "m.png", content))


def read_given(folder, content):
    name = "m.json" if content[:1] in (b"{", b"[") else "m.png"
    ids = given_mask.read(put(folder, name, content), (48, 80), given_mask.ObjectNumbers())
    assert ids.dtype == np.uint8 and ids.ndim == 2


def read_image(folder, content):
    assert pictures.read_image(put(folder, "i.jpg", content)).shape[2] == 3


def read_frame_of_record(folder, content):
    masks.write_mask(folder / "i.png", drawn_videos.draw(0, [1])[1])
    frame = put(folder, "i.jpg", content)
    tfrecords.encode(datasets.VideoFiles("bear", (frame,), (folder / "i.png",)))


def read_settings(folder, content):
    put(folder, model_loading.SETTINGS, content)
    assert model_loading.bundled_inference_size(folder) > 0


def read_video(folder, content):
    frames = video.open_frames(put(folder, "v.mp4", content))
    for frame in itertools.islice(frames.timed(), 30):
        assert frame.image.shape[2] == 3


def read_pipe(folder, content):
    frames = live_frames.open_pipe(io.BytesIO(content))
    for _ in itertools.islice(frames.timed(), 30):
        pass


def read_stamp(folder, content):
    put(folder, f"out/{mask_folder.STAMP}", content)
    put(folder, f"precious/{mask_folder.STAMP}", b"{}")
    mask_folder.is_complete(folder / "out", {})
    with mask_folder.replacing(folder / "out", {}) as working:
        put(working, "00000.png", b"mask")


def read_state(folder, content):
    put(folder, mask_folder.STATE, content)
    mask_folder.load_state(folder)


def read_split(folder, content):
    put(folder, "JPEGImages/480p/bear/00000.jpg", b"")
    put(folder, "ImageSets/2017/val.txt", content)
    for files in datasets.list_sequences(folder, require_masks="none"):
        assert files.name == "bear"


def read_meta(folder, content):
    for frame in range(2):
        put(folder, f"valid/JPEGImages/bear/{frame:05d}.jpg", b"")
        put(folder, f"valid/Annotations/bear/{frame:05d}.png", b"")
    put(folder, "valid/meta.json", content)
    found = datasets.list_sequences(folder, "youtube_vos", "valid", require_masks="first")
    assert all(0 < key < 255 for files in found for key in files.object_frames)
    input_video.from_dataset(found)


def read_list(folder, content):
    for one in many_videos.find(put(folder, "list.txt", content), Selection()):
        assert "/" not in one.name and one.name not in ("", ".", "..")


def read_records(folder, content):
    corrupt_records.check_file(put(folder, "a.tfrecord", content))


def read_weights(folder, content):
    whole_files.read_npz(put(folder, "weights.npz", content), "weights")


def read_gin(folder, content):
    try:
        gin_settings.parse([str(put(folder, "a.gin", content))], [])
    finally:
        gin.clear_config()


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns a corrupted copy of a file: bytes changed, cut, repeated, moved or added.

    Args:
      content: of the file.
      rng: chooses the changes.
    """
    if content[:1] in (b"{", b"[") and rng.random() < 0.7:
        return _mutated_json(content, rng)
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        _CHANGES[rng.integers(len(_CHANGES))](data, rng)
    return bytes(data)


def _mutated_json(content: bytes, rng: np.random.Generator) -> bytes:
    tree = json.loads(content)
    for _ in range(rng.integers(1, 4)):
        tree = _with_one_change(tree, rng)
    return json.dumps(tree).encode("utf-8", errors="surrogatepass")


def _with_one_change(tree: Any, rng: np.random.Generator) -> Any:
    """Returns a tree of JSON with one node replaced, removed, renamed or nested deep."""
    if isinstance(tree, (dict, list)) and tree and rng.random() < 0.85:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = keys[rng.integers(len(keys))]
        tree[key] = _with_one_change(tree[key], rng)
        if rng.random() < 0.1:
            value = tree.pop(key)
            if isinstance(tree, dict) and rng.random() < 0.5:
                tree[_TEXTS[rng.integers(len(_TEXTS))]] = value
        return tree
    if rng.random() < 0.05:
        for _ in range(400):
            tree = [tree]
        return tree
    return _VALUES[rng.integers(len(_VALUES))]


def _change_bytes(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 9)):
        if data:
            data[rng.integers(len(data))] = rng.integers(256)


def _change_header(data: bytearray, rng: np.random.Generator) -> None:
    if data:
        data[rng.integers(min(len(data), 64))] = _INTERESTING[rng.integers(len(_INTERESTING))]


def _enlarge_number(data: bytearray, rng: np.random.Generator) -> None:
    if len(data) > 4:
        start = rng.integers(len(data) - 4)
        data[start : start + 4] = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0")[
            rng.integers(3)
        ]


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[rng.integers(len(data) + 1) :]


def _remove(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(data) + 1)
    del data[start : start + rng.integers(1, 100)]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(data) + 1)
    data[start:start] = data[start : start + rng.integers(1, 200)]


def _insert(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(data) + 1)
    data[start:start] = rng.bytes(rng.integers(1, 50))


_CHANGES = (_change_bytes, _change_header, _enlarge_number, _cut, _remove, _repeat, _insert)


def tree_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def timed_out(*_):
    raise AssertionError(f"not done after {SECONDS} s")


def fuzz(seeds, tmp_path, numbers):
    readers = list(seeds)
    others = tmp_path / "others"
    put(others, "precious.png", b"precious")
    before = tree_of(others)
    refused = 0
    handler = signal.signal(signal.SIGALRM, timed_out)
    try:
        for number in numbers:
            rng = np.random.default_rng(number)
            reader = readers[number % len(readers)]
            whole = seeds[reader][rng.integers(len(seeds[reader]))]
            folder = tmp_path / str(number)
            folder.mkdir()
            signal.alarm(SECONDS)
            try:
                reader(folder, mutated(whole, rng))
            except InputError as error:
                refused += 1
                assert "\n" not in str(error), f"{reader.__name__} {number}: {error}"
            except Exception as error:
                raise AssertionError(f"{reader.__name__} with seed {number}: {error!r}") from error
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert tree_of(others) == before
    assert {path.name for path in tmp_path.iterdir()} == {"others", *map(str, numbers)}
    assert refused > len(numbers) // 4


def test_intact_files_are_accepted(seeds, tmp_path):
    for reader, contents in seeds.items():
        for number, content in enumerate(contents):
            folder = tmp_path / f"{reader.__name__}{number}"
            folder.mkdir()
            if reader not in (read_split, read_gin, read_stamp):  # They name missing files.
                reader(folder, content)


def test_200_damaged_files_are_accepted_or_refused_in_one_sentence(seeds, tmp_path):
    fuzz(seeds, tmp_path, range(QUICK))


@pytest.mark.slow
def test_2000_damaged_files_are_accepted_or_refused_in_one_sentence(seeds, tmp_path):
    fuzz(seeds, tmp_path, range(QUICK, ALL))
