import dataclasses
import itertools
import re
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import (
    corrupt_records,
    datasets,
    input_pipeline,
    record_shards,
    tfrecords,
)
from feelvos_tf.data.input_pipeline import ClipOrder
from feelvos_tf.data.paper_clips import ClipSettings
from feelvos_tf.data.scene_composing import MovingScenes
from feelvos_tf.media import masks

HEIGHT, WIDTH = 48, 64


def _video(folder: Path, name: str, frames: int, ids=(3, 7)) -> datasets.VideoFiles:
    """Draws gray frames of brightness 10 * index; the masks show two moving boxes."""
    (folder / name).mkdir(parents=True)
    for i in range(frames):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 10 * i, np.uint8)).save(
            folder / name / f"{i}.jpg", quality=95
        )
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[8:32, 4 + i : 24 + i] = ids[0]
        mask[20:44, 34 + i : 54 + i] = ids[1]
        masks.write_mask(folder / name / f"{i}.png", mask)
    paths = [
        tuple(folder / name / f"{i}.{suffix}" for i in range(frames)) for suffix in ("jpg", "png")
    ]
    return datasets.VideoFiles(name, *paths)


def _records(folder: Path, lengths: dict, shards: int = 2, **options) -> str:
    videos = [_video(folder, name, frames, **options) for name, frames in lengths.items()]
    record_shards.write_shards(videos, folder / "records", "train", shards)
    return str(folder / "records" / "train-*.tfrecord")


@pytest.fixture(scope="module")
def two_videos(tmp_path_factory) -> str:
    return _records(tmp_path_factory.mktemp("two"), {"a": 5, "b": 8})


def _dataset(pattern, **settings) -> tf.data.Dataset:
    names = [field.name for field in dataclasses.fields(ClipSettings)]
    clips = {name: settings.pop(name) for name in names if name in settings}
    clips = ClipSettings(**{"crop_size": (40, 56), **clips})
    settings = {"seed": 0, **settings}
    return input_pipeline.training_dataset(4, records=pattern, clips=clips, **settings)


def _batches(count: int, pattern, **settings) -> list:
    return _first(count, _dataset(pattern, **settings))


def _first(count: int, dataset: tf.data.Dataset) -> list:
    """Returns batches of a dataset; tests reuse one, as building it takes long."""
    return [{key: value.numpy() for key, value in b.items()} for b in dataset.take(count)]


@pytest.fixture(scope="module")
def plain(two_videos) -> tf.data.Dataset:
    """Returns the batches of the two videos with the default settings."""
    return _dataset(two_videos)


def test_batches_have_the_promised_shapes_and_types(plain):
    assert {
        key: (spec.shape.as_list(), spec.dtype) for key, spec in plain.element_spec.items()
    } == {
        "images": ([4, 3, 40, 56, 3], tf.float32),
        "labels": ([4, 3, 40, 56], tf.int32),
        "num_objects": ([4], tf.int32),
        "video_id": ([4], tf.string),
    }


def test_labels_are_indices_of_the_objects_in_the_reference(plain):
    for batch in _first(5, plain):
        for labels, count in zip(batch["labels"], batch["num_objects"]):
            assert set(np.unique(labels[0])) - {255} <= set(range(count))
            assert set(np.unique(labels)) - {255} <= set(range(count))
            assert count in (2, 3)


def test_every_video_and_every_frame_gets_its_turn(two_videos):
    batches = _batches(25, two_videos, max_scale=1.0)
    names = np.concatenate([batch["video_id"] for batch in batches])
    assert 40 <= (names == b"a").sum() <= 60
    frames = np.concatenate([batch["images"][:, :, 20, 20, 0] for batch in batches]) / 10
    assert (np.abs(frames[:, 2] - frames[:, 1] - 1) < 0.2).all()
    assert set(np.round(frames[names == b"b", 0]).astype(int)) == set(range(8))


def test_previous_and_current_share_scale_crop_and_flip(tmp_path):
    pattern = _records(tmp_path, {"still": 3})
    batches = _batches(4, pattern, crop_size=(30, 30))
    for batch in batches:
        # The boxes move by one pixel per frame, at most 1.3 after scaling.
        for labels in batch["labels"]:
            same = (labels[1] == labels[2]).mean()
            assert same > 0.8
    reference_differs = [
        (labels[0] != labels[1]).mean() > 0.15 for batch in batches for labels in batch["labels"]
    ]
    assert any(reference_differs)


def test_small_frames_are_padded_with_the_mean_pixel_and_void(two_videos):
    (batch,) = _batches(1, two_videos, crop_size=(90, 100), flip_probability=0.0)
    assert (batch["images"][:, :, 70:] == 127.5).all()
    assert (batch["labels"][:, :, 70:] == 255).all()
    assert (batch["labels"][:, :, :HEIGHT, :WIDTH] != 255).all()


def test_batches_repeat_with_the_seed_and_differ_between_seeds(two_videos):
    first, again, other = (_batches(3, two_videos, seed=seed) for seed in (1, 1, 2))
    for one, two in zip(first, again):
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])
    assert any((one["labels"] != two["labels"]).any() for one, two in zip(first, other))


def test_without_a_seed_every_dataset_draws_its_own(two_videos, monkeypatch):
    class Source(NamedTuple):
        """Stands in for the real source, whose graph takes long to build."""

        data_sets: list
        weights: list
        clips: ClipSettings
        scenes: list
        seed: int
        log: object

        def clip(self, number):
            sources.append(self)
            return types.SimpleNamespace(_asdict=lambda: {"n": number})

    sources = []
    monkeypatch.setattr(input_pipeline, "ClipSource", Source)
    for seed in (None, None, 7):
        _dataset(two_videos, seed=seed)
    assert sources[0].seed != sources[1].seed and sources[2].seed == 7
    _dataset([two_videos, two_videos])
    assert sources[3].weights == [0.5, 0.5]


def test_a_dataset_can_start_at_any_batch(tmp_path, two_videos):
    """A resumed run sees the same clips as an uninterrupted one, even if some were dropped."""
    pattern = [two_videos, _records(tmp_path, {"short": 2, "c": 4})]
    settings = {"crop_size": (30, 30), "min_label_count": 7}
    whole = _batches(6, pattern, **settings)
    for number, batch in enumerate(_batches(2, pattern, first_batch=4, **settings), start=4):
        for key in batch:
            np.testing.assert_array_equal(batch[key], whole[number][key])
    names = np.concatenate([batch["video_id"] for batch in whole])
    assert set(names) == {b"a", b"b", b"c"}


def test_data_sets_are_drawn_with_their_probabilities(tmp_path, two_videos):
    other = _records(tmp_path, {"c": 4})
    batches = _batches(30, [two_videos, other], probabilities=[0.2, 0.8])
    share = np.mean([(batch["video_id"] == b"c").mean() for batch in batches])
    assert 0.7 < share < 0.9


def test_fine_tuning_clips_are_different_crops_of_the_first_frame(two_videos):
    batches = _batches(4, two_videos, first_frame_only=True, crop_size=(30, 30))
    assert max(batch["images"].max() for batch in batches) < 3
    moved = [(x[1] != x[2]).mean() > 0.05 for batch in batches for x in batch["labels"]]
    assert any(moved)


def test_views_of_a_first_frame_are_flipped_independently_and_all_kept(tmp_path):
    pattern = _records(tmp_path, {"a": 3}, ids=(3, 3))
    own = {"first_frame_only": True, "max_scale": 1.0, "min_label_count": 0}
    batches = _batches(6, pattern, crop_size=(HEIGHT, WIDTH), **own)
    # The left box is higher than the right one.
    flips = np.concatenate([b["labels"][:, :, 10, WIDTH - 10] == 1 for b in batches])
    assert {tuple(row) for row in flips} == set(itertools.product([False, True], repeat=3))
    counts = [b["num_objects"] for b in _batches(6, pattern, crop_size=(9, 9), **own)]
    assert set(np.concatenate(counts)) == {1, 2}


def test_following_frames_are_the_next_of_the_video_with_the_same_crop(two_videos):
    (batch,) = _batches(1, two_videos, rollout_steps=2, max_scale=1.0, crop_size=(40, 60))
    assert batch["images"].shape == (4, 5, 40, 60, 3)
    frames = np.round(batch["images"][:, 1:, 20, 20, 0] / 10)
    np.testing.assert_array_equal(np.diff(frames), 1)
    for labels in batch["labels"]:
        assert all((labels[i] != labels[i + 1]).mean() < 0.1 for i in (1, 2, 3))


def test_frames_are_first_resized_to_the_given_range(tmp_path):
    pattern = _records(tmp_path, {"a": 3})
    own = {"min_resize_value": 24, "max_scale": 1.0, "flip_probability": 0.0, "min_label_count": 1}
    (batch,) = _batches(1, pattern, **own)
    assert (batch["labels"][:, :, :24, :32] != 255).all()
    assert (batch["labels"][:, :, 24:] == 255).all() and (batch["labels"][..., 32:] == 255).all()


def test_records_of_the_release_for_davis_2016_are_read(tmp_path):
    example, _ = tfrecords.encode(_video(tmp_path, "a", 3))
    lists = example.feature_lists.feature_list
    lists["segmentation/class/encoded"].CopyFrom(lists.pop("segmentation/object/encoded"))
    video = tfrecords.parse(tf.constant(example.SerializeToString()))
    assert len(video.images) == len(video.masks) == 3
    ids = tfrecords.decode_frame(video.images[1], video.masks[1])[1]
    assert set(np.unique(ids)) == {0, 3, 7}


def test_fine_tuning_works_on_a_single_frame(tmp_path):
    (batch,) = _batches(1, _records(tmp_path, {"one": 1}), first_frame_only=True)
    assert batch["images"].shape[0] == 4


def test_damage_changes_only_the_previous_mask(plain, two_videos):
    damaged = _batches(2, two_videos, damage_previous_mask=True)
    for one, two in zip(_first(2, plain), damaged):
        np.testing.assert_array_equal(one["images"], two["images"])
        np.testing.assert_array_equal(one["labels"][:, [0, 2]], two["labels"][:, [0, 2]])
        assert (one["labels"][:, 1] != two["labels"][:, 1]).any()


def test_short_videos_are_skipped_with_a_reason(tmp_path, capfd):
    pattern = _records(tmp_path, {"short": 2, "long": 3})
    for batch in _batches(2, pattern):
        assert set(batch["video_id"]) == {b"long"}
    skipped = [line for line in capfd.readouterr().err.splitlines() if "skipped" in line]
    assert skipped == ['skipped video "short": 2 frames, training needs 3']


def test_no_usable_clip_is_an_error_not_an_endless_search(tmp_path, two_videos, monkeypatch):
    monkeypatch.setattr(input_pipeline, "_MAX_DROPPED_IN_A_ROW", 5)
    short = _records(tmp_path, {"short": 2})
    with (
        pytest.raises(InputError, match="no video in .* has the 3 frames that training needs"),
        corrupt_records.readable_errors(),
    ):
        _batches(1, short)
    with (
        pytest.raises(InputError, match="5 clips in a row .* fewer than 5000 pixels"),
        corrupt_records.readable_errors(),
    ):
        _batches(1, two_videos, min_label_count=5000)


def test_missing_and_truncated_records_are_reported(tmp_path):
    with pytest.raises(InputError, match="no training records match .*none"):
        _batches(1, str(tmp_path / "none-*"))
    pattern = _records(tmp_path, {"a": 3}, shards=1)
    path = tmp_path / "records" / "train-00000-of-00001.tfrecord"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="00001.tfrecord: the file ends inside record 1"):
        _batches(1, pattern)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="hold no video"):
        _batches(1, pattern)


def test_a_corrupt_record_is_reported_while_training(tmp_path):
    pattern = _records(tmp_path, {"a": 3}, shards=1)
    path = tmp_path / "records" / "train-00000-of-00001.tfrecord"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with (
        pytest.raises(InputError, match="00001.tfrecord: record 1 is corrupt"),
        corrupt_records.readable_errors(),
    ):
        _batches(1, pattern)


def _with_frame(example: tf.train.SequenceExample, key: str, content: bytes) -> None:
    lists = example.feature_lists.feature_list
    lists[key].feature[1].bytes_list.value[0] = content


@pytest.mark.parametrize("kind", ["truncated image", "palette mask", "wrong size"])
def test_an_unusable_frame_is_reported(tmp_path, kind):
    video = _video(tmp_path, "a", 3)
    example, _ = tfrecords.encode(video)
    if kind == "truncated image":
        _with_frame(example, "image/encoded", video.frames[1].read_bytes()[:-200])
    elif kind == "palette mask":
        _with_frame(example, "segmentation/object/encoded", video.masks[1].read_bytes())
    else:
        masks.write_mask(tmp_path / "small.png", np.ones((4, 4), np.uint8))
        small = tf.io.encode_png(np.ones((4, 4, 1), np.uint8)).numpy()
        _with_frame(example, "segmentation/object/encoded", small)
    path = tmp_path / "train-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())
    with (
        pytest.raises(InputError, match="tfrecord: frame 1 of video 'a' .record 1. cannot be read"),
        corrupt_records.readable_errors(),
    ):
        _batches(5, str(path))


def test_other_errors_pass_unchanged():
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="of the model"),
        corrupt_records.readable_errors(),
    ):
        tf.debugging.assert_equal(1, 2, "an error of the model")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": (0, 5)}, "ClipSettings.crop_size: expected tuple[int of 1 or more, int of"),
        ({"crop_size": 97}, "crop_size: expected tuple"),
        (
            {"min_scale": 1.5},
            "ClipSettings: expected 0 < min_scale <= max_scale, found 1.5 and 1.3",
        ),
        ({"flip_probability": 1.5}, "flip_probability: expected float of 0.0 to 1.0, found 1.5"),
        ({"max_frame_gap": 0}, "max_frame_gap: expected int of 1 or more, found 0"),
        ({"first_frame_only": "False"}, "first_frame_only: expected bool, found 'False'"),
        (
            {"probabilities": [0.5, 0.5]},
            "probabilities: expected 1 entries (one per data set), found 2",
        ),
        ({"first_batch": -1}, "training_dataset.first_batch: expected int of 0 or more, found -1"),
        ({"max_corrupt_records": -1}, "max_corrupt_records: expected int of 0 or more, found -1"),
        ({"pattern": 5}, "records: expected"),
        ({"pattern": []}, "records: expected one or more patterns, found none"),
        ({"pattern": ["/a", None]}, "records: expected"),
        ({"scenes": [MovingScenes]}, "scenes: expected @MovingScenes(), with parentheses"),
        ({"scenes": [None, None]}, "scenes: expected 1 entries (one per data set), found 2"),
    ],
)
def test_settings_out_of_range_are_reported(two_videos, settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        _batches(1, **{"pattern": two_videos, **settings})


def test_clip_settings_without_parentheses_are_refused(two_videos):
    with pytest.raises(InputError, match="clips: expected @ClipSettings.., with parentheses"):
        input_pipeline.training_dataset(2, records=two_videos, clips=ClipSettings)


def test_real_videos_become_clips(real_data, tmp_path):
    sequences = datasets.list_sequences(
        real_data / "davis2016", "davis_2016", "train", "480p", ["hike", "bear"]
    )
    record_shards.write_shards(sequences, tmp_path, "train", 1)
    settings = {"crop_size": (241, 427), "min_scale": 0.5, "max_scale": 0.65}
    for batch in _batches(3, str(tmp_path / "train-*"), **settings):
        assert (batch["num_objects"] == 2).all()
        share = (batch["labels"] == 1).mean((2, 3))
        assert ((share > 0.01) & (share < 0.6)).all()


def _scenes(**settings) -> MovingScenes:
    return MovingScenes(**{"min_scale": 1.0, "max_scale": 1.2, "motion": 0.3, **settings})


def test_scenes_make_clips_from_stills_and_videos_with_following_frames(tmp_path):
    stills = _records(tmp_path / "stills", {f"s{i}": 1 for i in range(6)})
    videos = _records(tmp_path / "videos", {"a": 8, "b": 9})
    settings = {"scenes": [_scenes(), _scenes()], "rollout_steps": 1, "min_label_count": 1}
    dataset = _dataset([stills, videos], probabilities=(0.5, 0.5), **settings)
    batches = _first(6, dataset)
    assert batches[0]["images"].shape == (4, 4, 40, 56, 3)
    assert batches[0]["labels"].shape == (4, 4, 40, 56)
    names = {str(name)[2] for batch in batches for name in batch["video_id"]}
    assert names == {"s", "a", "b"}
    for batch in batches:
        for labels, count in zip(batch["labels"], batch["num_objects"]):
            assert set(np.unique(labels)) - {255} <= set(range(count))
            assert set(np.unique(labels[0])) - {255} == set(range(count))
    for first, second in zip(batches, _first(2, dataset)):
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])


def test_data_sets_with_and_without_scenes_mix(tmp_path):
    stills = _records(tmp_path / "stills", {f"s{i}": 1 for i in range(6)})
    videos = _records(tmp_path / "videos", {"a": 8, "b": 9})
    batches = _batches(4, [stills, videos], scenes=[_scenes(), None], min_label_count=1)
    names = {str(name)[2] for batch in batches for name in batch["video_id"]}
    assert names == {"s", "a", "b"}


def test_a_corrupt_still_is_reported(tmp_path):
    pattern = _records(tmp_path, {"s0": 1}, shards=1)
    [(path, _)] = tfrecords.find_videos(pattern)
    with tf.io.TFRecordWriter(path) as writer:
        example = tfrecords._example("s0", [b"no JPEG"], [b"no PNG"], 48, 64)
        writer.write(example.SerializeToString())
    with (
        pytest.raises(InputError, match="frame 0 of video 's0' .record 1. cannot be read"),
        corrupt_records.readable_errors(),
    ):
        _batches(1, pattern, scenes=[_scenes()])


def turns(order: ClipOrder, first: int, count: int) -> np.ndarray:
    """Returns (data set, video) of consecutive clips, [count, 2]."""
    numbers = tf.data.Dataset.range(first, first + count)
    return np.array(list(numbers.map(lambda n: order.turn(n)[:2]).as_numpy_iterator()))


def test_every_video_has_one_turn_in_every_round_and_rounds_differ():
    rounds = turns(ClipOrder([7], [1.0], seed=3), 0, 35)[:, 1].reshape(5, 7)
    assert (np.sort(rounds, 1) == np.arange(7)).all()
    assert len({tuple(order) for order in rounds}) > 1


def test_the_video_of_a_clip_does_not_depend_on_the_first_clip_read():
    for order in (ClipOrder([7], [1.0], 3), ClipOrder([7, 5], [0.5, 0.5], 3)):
        np.testing.assert_array_equal(turns(order, 0, 60)[41:], turns(order, 41, 19))


def test_data_sets_get_their_shares_and_videos_equal_turns():
    found = turns(ClipOrder([3, 4, 2], [0.2, 0.0, 0.8], seed=5), 10_000, 10_000)
    shares = np.bincount(found[:, 0], minlength=3)
    assert list(shares) == [2000, 0, 8000]
    assert list(np.bincount(found[found[:, 0] == 2, 1])) == [4000, 4000]
    # They are mixed: no long stretch comes from a single data set.
    assert 10 < (found[:100, 0] == 0).sum() < 35


def test_different_seeds_give_different_orders():
    one, other = (turns(ClipOrder([20], [1.0], seed), 0, 20) for seed in (1, 2))
    assert (one != other).any()


def test_turns_know_whether_they_belong_to_the_first_round():
    order = ClipOrder([4], [1.0], seed=0)
    first = [bool(order.turn(tf.constant(n, tf.int64))[2]) for n in range(8)]
    assert first == [True] * 4 + [False] * 4
