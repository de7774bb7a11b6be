import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageFile

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import record_shards, tfrecords
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.media import masks, pictures
from feelvos_tf.testing import drawn_videos

HEIGHT, WIDTH = 12, 16


def _video(folder: Path, name: str, frames: int = 2, binary: bool = False, ids=(0, 1, 7)):
    rng = np.random.default_rng(len(name) + frames)
    (folder / name).mkdir(parents=True)
    images, pngs = [], []
    for i in range(frames):
        images.append(folder / name / f"{i}.jpg")
        pngs.append(folder / name / f"{i}.png")
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(images[-1])
        drawn = rng.choice(np.array([0, 255] if binary else ids, np.uint8), (HEIGHT, WIDTH))
        masks.write_mask(pngs[-1], drawn)
    return VideoFiles(name, tuple(images), tuple(pngs), binary)


def _read(paths) -> list[tf.train.SequenceExample]:
    dataset = tf.data.TFRecordDataset([str(path) for path in paths])
    return [tf.train.SequenceExample.FromString(raw.numpy()) for raw in dataset]


def test_a_record_has_the_fields_of_the_release(tmp_path):
    video = _video(tmp_path, "bear", frames=3)
    example, _ = tfrecords.encode(video)
    context = example.context.feature
    assert set(context) == {
        "video_id",
        "clip/frames",
        "image/format",
        "image/channels",
        "image/height",
        "image/width",
        "segmentation/object/format",
        "segmentation/object/height",
        "segmentation/object/width",
    }
    assert context["video_id"].bytes_list.value[:] == [b"bear"]
    assert context["clip/frames"].int64_list.value[:] == [3]
    assert context["image/height"].int64_list.value[:] == [HEIGHT]
    assert context["segmentation/object/width"].int64_list.value[:] == [WIDTH]
    lists = example.feature_lists.feature_list
    assert set(lists) == {"image/encoded", "segmentation/object/encoded"}
    encoded = [feature.bytes_list.value[0] for feature in lists["image/encoded"].feature]
    assert encoded == [path.read_bytes() for path in video.frames]
    for feature, path in zip(lists["segmentation/object/encoded"].feature, video.masks):
        png = Image.open(io.BytesIO(feature.bytes_list.value[0]))
        assert png.mode == "L"
        np.testing.assert_array_equal(np.array(png), masks.read_annotation(path))


def test_a_png_frame_is_decoded_once(tmp_path, monkeypatch):
    pictures.write_image(tmp_path / "a.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    masks.write_mask(tmp_path / "b.png", np.ones((HEIGHT, WIDTH), np.uint8))
    decoded = []
    decode = ImageFile.ImageFile.load_prepare
    monkeypatch.setattr(
        ImageFile.ImageFile,
        "load_prepare",
        lambda image: decoded.append(image.filename) or decode(image),
    )
    tfrecords.encode(VideoFiles("a", (tmp_path / "a.png",), (tmp_path / "b.png",)))
    assert decoded.count(str(tmp_path / "a.png")) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_rotated_by_exif_are_upright_in_records_as_in_prediction(tmp_path, orientation):
    """Their masks are drawn upright, have no EXIF data and are not rotated."""
    image, ids = drawn_videos.draw(0, [1])
    stored = Image.fromarray(image[: image.shape[0] - 8])  # Not a square.
    if orientation >= 5:
        stored = stored.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=100)
    masks.write_mask(tmp_path / "a.png", ids[: ids.shape[0] - 8])
    video = VideoFiles("a", (tmp_path / "a.jpg",), (tmp_path / "a.png",))
    parsed = tfrecords.parse(tfrecords.encode(video)[0].SerializeToString())
    found = tf.io.decode_jpeg(parsed.images[0], channels=3).numpy().astype(int)
    expected = pictures.read_image(tmp_path / "a.jpg")
    assert found.shape[:2] == tuple(tf.io.decode_png(parsed.masks[0]).shape[:2])
    np.testing.assert_allclose(found, expected, atol=12)


def test_255_is_the_object_in_davis_2016_masks(tmp_path):
    example, _ = tfrecords.encode(_video(tmp_path, "bear", binary=True))
    png = tf.io.decode_png(tfrecords.parse(example.SerializeToString()).masks[0])
    assert set(np.unique(png)) == {0, 1}


def test_parse_returns_what_encode_wrote(tmp_path):
    video = _video(tmp_path, "bear", frames=3)
    parsed = tfrecords.parse(tfrecords.encode(video)[0].SerializeToString())
    assert parsed.video_id == b"bear"
    assert parsed.images.shape == parsed.masks.shape == [3]
    assert parsed.images[2] == video.frames[2].read_bytes()


def write(videos, tmp_path, shards=1):
    return record_shards.write_shards(videos, tmp_path / "out", "train", shards)


@pytest.mark.parametrize(("videos", "shards"), [(1, 10), (7, 3), (10, 10), (11, 10), (5, 4)])
def test_every_video_is_in_exactly_one_shard(tmp_path, videos, shards):
    sequences = [_video(tmp_path, f"v{i}", frames=1) for i in range(videos)]
    paths = [s.path for s in write(sequences, tmp_path, shards)]
    expected = [f"train-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == expected
    found = [e.context.feature["video_id"].bytes_list.value[0].decode() for e in _read(paths)]
    assert found == [f"v{i}" for i in range(videos)]
    counts = [len(tfrecords.record_offsets(path)) for path in paths]
    assert sum(counts) == videos
    assert max(counts) - min(counts) <= 1


def test_a_failure_leaves_the_old_records_and_nothing_else(tmp_path):
    good, bad = _video(tmp_path, "good"), _video(tmp_path, "bad")
    [(old, *_)] = write([good], tmp_path)
    before = old.read_bytes()
    bad.frames[1].write_bytes(bad.frames[1].read_bytes()[:200])
    with pytest.raises(InputError, match="bad/1.jpg: expected a JPEG or PNG image"):
        record_shards.write_shards([good, bad], tmp_path / "out", "train", 1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [old.name]
    assert old.read_bytes() == before


def test_leftovers_of_a_killed_run_are_removed_by_the_next(tmp_path):
    left = tmp_path / "out/.writing-train"
    left.mkdir(parents=True)
    (left / "train-00000-of-00002.tfrecord").write_bytes(b"half a record")
    [(path, *_)] = write([_video(tmp_path, "bear")], tmp_path)
    assert list((tmp_path / "out").iterdir()) == [path]


def test_two_processes_do_not_write_the_same_records(tmp_path):
    videos = [_video(tmp_path, "bear")]

    def meanwhile(items):
        with pytest.raises(InputError, match="another process is writing records of 'train'"):
            record_shards.write_shards(videos, tmp_path / "out", "train", 1)
        return items

    [(path, *_)] = record_shards.write_shards(videos, tmp_path / "out", "train", 1, meanwhile)
    assert len(tfrecords.record_offsets(path)) == 1


def test_shards_of_another_run_are_not_mixed_in(tmp_path):
    video = _video(tmp_path, "bear")
    record_shards.write_shards([video], tmp_path / "out", "train", 2)
    with pytest.raises(InputError, match="00000-of-00002.tfrecord belongs to another set"):
        record_shards.write_shards([video], tmp_path / "out", "train", 3)
    record_shards.write_shards([video], tmp_path / "out", "val", 3)


def test_every_record_can_be_read_by_itself(tmp_path):
    sequences = [_video(tmp_path, f"v{i}", frames=1 + i) for i in range(3)]
    [(path, *_)] = write(sequences, tmp_path)
    offsets = tfrecords.record_offsets(path)
    for sequence, offset in reversed(list(zip(sequences, offsets))):
        video = tfrecords.parse(tfrecords.read_record(str(path), offset))
        assert video.video_id.numpy().decode() == sequence.name
        assert video.images.shape == [len(sequence.frames)]


def test_different_sizes_are_reported(tmp_path):
    video = _video(tmp_path, "bear", frames=3)
    masks.write_mask(video.masks[1], np.ones((HEIGHT, WIDTH + 1), np.uint8))
    with pytest.raises(InputError, match=r"1.png: expected 16x12 pixels like .*0.jpg, found 17x12"):
        tfrecords.encode(video)
    video = _video(tmp_path, "boat", frames=3)
    Image.new("RGB", (WIDTH, HEIGHT + 2)).save(video.frames[2])
    with pytest.raises(InputError, match=r"2.jpg: expected 16x12 pixels like .*0.jpg, found 16x14"):
        tfrecords.encode(video)


def test_a_video_without_objects_or_without_masks_is_refused(tmp_path):
    with pytest.raises(InputError, match="no mask in .*bear holds an object"):
        tfrecords.encode(_video(tmp_path, "bear", ids=(0, 255)))
    video = _video(tmp_path, "boat")
    with pytest.raises(InputError, match="boat: training records need a mask for every frame"):
        tfrecords.encode(VideoFiles("boat", video.frames, (video.masks[0], None)))


SIZES = (300, 20, 0, 5000)


@pytest.fixture
def records(tmp_path):
    """Returns the path of a record file, and where its records begin."""
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, size in enumerate(SIZES):
            writer.write(bytes([number]) * size)
    return path, [sum(SIZES[:n]) + 16 * n for n in range(len(SIZES))]


def test_record_offsets_follow_from_the_lengths(records):
    path, begins = records
    assert tfrecords.record_offsets(path) == begins


@pytest.mark.parametrize("number", range(len(SIZES)))
@pytest.mark.parametrize("byte", [0, 1, 7, 8, 11])
def test_one_wrong_byte_of_a_length_costs_one_record(records, number, byte):
    path, begins = records
    content = bytearray(path.read_bytes())
    content[begins[number] + byte] ^= 0x11
    path.write_bytes(content)
    reported = []
    assert tfrecords.record_offsets(path, reported.append) == begins[:number] + begins[number + 1 :]
    assert len(reported) == 1 and f"the length of record {number + 1} is corrupt" in reported[0]
    with pytest.raises(InputError, match=f"the length of record {number + 1} is corrupt"):
        tfrecords.record_offsets(path)


def test_a_truncated_file_has_the_records_before_its_end(records):
    path, begins = records
    content = path.read_bytes()
    for end in (len(content) - 1, begins[3] + 100, begins[3] + 5):
        path.write_bytes(content[:end])
        reported = []
        assert tfrecords.record_offsets(path, reported.append) == begins[:3]
        assert len(reported) == 1 and "the file ends inside record 4" in reported[0]
        with pytest.raises(InputError, match="a.tfrecord: the file ends inside record 4"):
            tfrecords.record_offsets(path)


def test_other_files_give_one_line_errors(tmp_path):
    (tmp_path / "text").write_text("no records at all, but some text")
    for name, sentence in {
        "text": "length of record 1 is corrupt .is it a complete TFRecord file",
        "none": "expected a TFRecord file, found no such file",
        "": "expected a TFRecord file, found a folder",
    }.items():
        with pytest.raises(InputError, match=sentence):
            tfrecords.record_offsets(tmp_path / name)
