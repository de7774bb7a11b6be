"""Generated masks, JSON and videos are read as Pillow, pycocotools and FFmpeg read them.

There are 300 of them, 5,000 in the slow tests, always the same. `feelvos_tf/fuzz_test.py` damages
bytes and finds tracebacks; this finds silent errors.
"""

from __future__ import annotations

import json
import struct
import subprocess
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import given_mask, masks, video
from feelvos_tf.testing.generated import cases, run

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies
HEIGHT, WIDTH = 48, 64
SATURATED = [
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)),
    *((128, 0, 0), (0, 128, 0), (200, 100, 0), (250, 250, 250), (10, 120, 200)),
]


@st.composite
def scenes(draw, smallest=1):
    """Draws a mask of 1 to 5 rectangles and ellipses, which may hide one another."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids = draw(st.lists(st.sampled_from([1, 2, 3, 7, 9, 20, 200, 254]), min_size=1, max_size=5))
    for value in sorted(set(ids)):
        top, left = draw(st.integers(0, HEIGHT - smallest)), draw(st.integers(0, WIDTH - smallest))
        height, width = (draw(st.integers(smallest, 24)) for _ in range(2))
        if draw(st.booleans()):
            mask[top : top + height, left : left + width] = value
        else:
            axes = (width // 2, height // 2)
            cv2.ellipse(mask, (left, top), axes, 0, 0, 360, int(value), -1)
    hypothesis.assume(mask.any())
    return mask


def partition(ids):
    """Returns the mask with its objects renumbered in the order of their first pixels."""
    found, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    first[found == 0] = -1
    order = np.argsort(np.argsort(first)) + (0 not in found)
    return order[inverse.reshape(ids.shape)]


def saved_ids(draw, mask, path):
    """Saves a mask as ids; returns the file."""
    kind = draw(st.sampled_from(["DAVIS", "palette", "gray", "deep", "float", "RGB", "LA"]))
    if kind == "DAVIS":
        masks.write_mask(path, mask)
        return path
    image = Image.fromarray(mask)
    if kind == "palette":
        image.putpalette([0, 0, 0] + [int(v) for v in np.arange(255 * 3) * 37 % 251 + 3])
    elif kind == "deep":
        image = Image.fromarray(mask.astype(np.uint16))
    elif kind == "float":
        path = path.with_suffix(".tif")
        image = Image.fromarray(mask.astype(np.float32))
    elif kind in ("RGB", "LA"):
        image = image.convert(kind)
    image.save(path)
    return path


@cases(70, 1000)
def test_ids_are_read_as_pillow_reads_them(tmp_path, count):
    def check(data):
        mask = data.draw(scenes())
        path = saved_ids(data.draw, mask, tmp_path / "ids.png")
        # White on black and void alone are not ids.
        ids = given_mask.read(path, mask.shape, given_mask.ObjectNumbers())
        stored = np.array(Image.open(path)).astype(np.float32)
        expected = stored if stored.ndim == 2 else stored[..., 0]
        np.testing.assert_array_equal(ids, expected)

    run(check, st.data(), count)


@cases(70, 1200)
def test_every_color_that_pillow_sees_is_an_object(tmp_path, count):
    def check(data):
        mask = data.draw(scenes())
        colors = np.zeros((256, 3), np.uint8)
        chosen = data.draw(st.permutations(SATURATED))
        for value, color in zip(masks.object_ids(mask), chosen):
            colors[value] = color
        suffix = data.draw(st.sampled_from([".png", ".gif", ".bmp", ".tif", ".webp"]))
        image, options = Image.fromarray(colors[mask]), {}
        if suffix == ".webp":
            options["lossless"] = True
        elif suffix != ".bmp" and data.draw(st.booleans()):
            image = image.quantize(16)
        elif suffix in (".png", ".tif") and data.draw(st.booleans()):
            image.putalpha(Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)))
        path = tmp_path / f"colors{suffix}"
        image.save(path, **options)
        shown = np.array(Image.open(path).convert("RGBA")).astype(int)
        seen = (shown[..., :3] @ [1 << 16, 1 << 8, 1]) * (shown[..., 3] > 127)
        ids = given_mask.read(path, mask.shape, given_mask.ObjectNumbers())
        np.testing.assert_array_equal(partition(ids), partition(seen))

    run(check, st.data(), count)


def smooth(picture, sigma):
    return cv2.GaussianBlur(picture, (0, 0), sigma)


@cases(60, 1000)
def test_soft_edges_do_not_move_outlines_by_more_than_the_blur(tmp_path, count):
    rng = np.random.default_rng(0)
    photo = smooth(rng.integers(0, 256, (2 * HEIGHT, 2 * WIDTH, 3), dtype=np.uint8), 2)

    def check(data):
        mask = data.draw(scenes(smallest=8))
        ids = masks.object_ids(mask)
        chosen = np.array(data.draw(st.permutations(SATURATED[:6]))[: len(ids)], np.float32)
        large = cv2.resize(mask, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_NEAREST)
        sigma = data.draw(st.sampled_from([0.5, 1, 2]))
        shares = [smooth((large == value).astype(np.float32), sigma)[..., None] for value in ids]
        frame = photo if data.draw(st.booleans()) else None
        behind = np.zeros_like(photo) if frame is None else frame
        picture = behind * (1 - sum(shares)) + sum(s * c for s, c in zip(shares, chosen))
        picture = np.clip(picture.round(), 0, 255).astype(np.uint8)
        suffix = ".png" if frame is not None else data.draw(st.sampled_from([".png", ".jpg"]))
        Image.fromarray(picture).save(tmp_path / f"soft{suffix}", quality=90)
        try:
            found = given_mask.read(
                tmp_path / f"soft{suffix}", large.shape, given_mask.ObjectNumbers(), lambda _: frame
            )
        except InputError:
            return  # Ambiguous drawings may be refused.
        square = np.ones((2 * round(sigma) + 3,) * 2, np.uint8)
        for value in ids:
            surely = cv2.erode((large == value).astype(np.uint8), square) > 0
            assert len(np.unique(found[surely])) <= 1 and (found[surely] > 0).all()
        surely = cv2.erode((large == 0).astype(np.uint8), square) > 0
        assert not found[surely].any()
        for one in ids:
            for other in ids:
                a, b = (
                    found[cv2.erode((large == value).astype(np.uint8), square) > 0]
                    for value in (one, other)
                )
                assert one == other or not len(a) or not len(b) or a[0] != b[0]

    run(check, st.data(), count)


@st.composite
def annotations(draw):
    """Draws a COCO or labelme file and its objects in order: (key, bool mask or polygon)."""
    objects = []
    for _ in range(draw(st.integers(1, 5))):
        corners = st.tuples(st.integers(-8, WIDTH + 8), st.integers(-8, HEIGHT + 8))
        finer = st.sampled_from([1.0, 0.5, 0.25])
        points = draw(st.lists(corners, min_size=3, max_size=6, unique=True))
        objects.append((np.array(points) * draw(finer)).tolist())
    is_labelme = draw(st.booleans())
    names = st.sampled_from(["dog", "cat", "1", "2", "3", "01", "200"])
    keys, entries, shapes = [], [], []
    for place, points in enumerate(objects, 1):
        if is_labelme:
            key = draw(names)
            entries.append({"label": key, "points": points, "shape_type": "polygon"})
        else:
            given = draw(st.sampled_from([None, "object_id", "track_id"]))
            key = f"place {place}" if given is None else draw(st.integers(1, 4))
            flat = [np.ravel(points).tolist()]
            as_runs = draw(st.sampled_from(["polygon", "text", "list"]))
            entry = {"segmentation": flat, "category_id": 1, "image_id": 5}
            if as_runs != "polygon":
                mask = drawn_by_coco(points)
                entry["segmentation"] = runs(mask, as_runs)
                points = mask
            entries.append(entry if given is None else {**entry, given: key})
        keys.append(str(key))
        shapes.append(points)
    if is_labelme:
        content = {"shapes": entries, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    elif draw(st.booleans()):
        images = [{"id": 4, "height": 1, "width": 1}, {"id": 5, "height": HEIGHT, "width": WIDTH}]
        content = {"annotations": entries, "images": images}
    else:
        content = entries
    return content, list(zip(keys, shapes))


def mask_utils():
    return pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


def drawn_by_coco(points):
    [runs_] = mask_utils().frPyObjects([np.ravel(points).tolist()], HEIGHT, WIDTH)
    return mask_utils().decode(runs_).astype(bool)


def runs(mask, kind):
    if kind == "text":
        found = mask_utils().encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": found["size"], "counts": found["counts"].decode()}
    flat = mask.ravel(order="F").astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": [0, *counts] if flat[0] else counts}


@cases(80, 1600)
def test_json_masks_match_those_drawn_by_pycocotools(tmp_path, count):
    mask_utils()

    def check(case):
        content, objects = case
        (tmp_path / "mask.json").write_text(json.dumps(content))
        ids = given_mask.read(tmp_path / "mask.json", (HEIGHT, WIDTH), given_mask.ObjectNumbers())
        keys = sorted({key for key, _ in objects})
        expected = np.zeros(ids.shape, int)
        is_edge = np.zeros(ids.shape, bool)
        for key, shape in objects:
            inside = shape if isinstance(shape, np.ndarray) else drawn_by_coco(shape)
            if inside is not shape:  # pycocotools' outlines are up to a pixel off.
                area = inside.astype(np.uint8)
                square = np.ones((3, 3), np.uint8)
                is_edge |= cv2.dilate(area, square) != cv2.erode(area, square)
                for (x, y), (u, v) in zip(shape, shape[1:] + shape[:1]):
                    line = np.zeros(ids.shape, np.uint8)
                    cv2.line(line, (round(x), round(y)), (round(u), round(v)), 1, 3)
                    is_edge |= line > 0
            expected[inside] = 1 + keys.index(key)
        pairs = set(zip(expected[~is_edge].tolist(), ids[~is_edge].tolist()))
        assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
        assert (0, 0) in pairs or not (expected[~is_edge] == 0).any()
        for number, key in enumerate(keys, 1):  # Numeric keys are ids.
            if key.isdecimal() and not key.startswith("0"):
                assert all(b == int(key) for a, b in pairs if a == number)

    run(check, annotations(), count)


CODECS = {
    ".mp4": ("libx264", "mpeg4"),
    ".mov": ("libx264", "mjpeg"),
    ".mkv": ("libx264", "ffv1", "mpeg4"),
    ".webm": ("libvpx", "libvpx-vp9"),
    ".avi": ("mpeg4", "mjpeg"),
    ".ts": ("libx264", "mpeg2video"),
    ".flv": ("flv1", "libx264"),
    ".nut": ("mpeg4",),
    ".wmv": ("wmv2",),
}


def written(data, path):
    """Writes a video with irregular times, possibly rotated or mirrored."""
    codec = data.draw(st.sampled_from(CODECS[path.suffix]))
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    count = data.draw(st.integers(5, 8))
    begin = data.draw(st.sampled_from([0, 3]))
    skipped = data.draw(st.sampled_from([0, 0, 2]))
    frames = np.zeros((count, 32, 48, 3), np.uint8)
    frames[:, 4:12, 4:12] = 255
    frames[:, 16:30, 20:40, 0] = np.linspace(60, 250, count)[:, None, None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.pts = begin + number + (skipped if number > 1 else 0)
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    if path.suffix in (".mp4", ".mov") and data.draw(st.booleans()):
        one = 1 << 16
        turn = data.draw(
            st.sampled_from(
                [(s * one, 0, 0, t * one) for s in (1, -1) for t in (1, -1)]
                + [(0, s * one, t * one, 0) for s in (1, -1) for t in (1, -1)]
            )
        )
        matrix = struct.pack(">9i", turn[0], turn[1], 0, turn[2], turn[3], 0, 0, 0, 1 << 30)
        start = content.index(b"tkhd") + 44
        content[start : start + 36] = matrix
        path.write_bytes(content)
    return count


@cases(20, 200)
def test_videos_are_read_as_by_ffmpeg_and_truncated_ones_are_refused(tmp_path, count):
    program = pytest.importorskip("imageio_ffmpeg", reason="no ffmpeg").get_ffmpeg_exe()

    def check(data):
        path = tmp_path / f"video{data.draw(st.sampled_from(list(CODECS)))}"
        number = written(data, path)
        ours = list(video.open_frames(path).timed())
        command = [program, "-v", "error", "-i", str(path), "-f", "rawvideo", "-fps_mode"]
        command += ["passthrough", "-pix_fmt", "rgb24", "-"]
        shown = subprocess.run(command, capture_output=True, check=True).stdout
        height, width = ours[0].image.shape[:2]
        theirs = np.frombuffer(shown, np.uint8).reshape(-1, height, width, 3).astype(int)
        assert len(ours) == len(theirs) == number
        for frame, expected in zip(ours, theirs):
            assert abs(frame.image - expected).mean() < 3
        content = path.read_bytes()
        cut = data.draw(st.integers(len(content) // 3, len(content) - 2))
        path.write_bytes(content[:cut])
        if path.suffix == ".ts" and cut % 188 == 0:
            return
        with pytest.raises(InputError, match="cut off|cannot be|expected"):
            for _ in video.open_frames(path):
                pass

    run(check, st.data(), count)
