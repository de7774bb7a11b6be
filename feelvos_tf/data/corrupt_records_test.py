"""Corrupt records are reported, counted and, up to a limit, skipped."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import corrupt_records, tfrecords
from feelvos_tf.data.input_pipeline import training_dataset
from feelvos_tf.data.input_pipeline_test import _scenes, _video
from feelvos_tf.data.paper_clips import ClipSettings

GOOD, BAD = "good", "bad"


def write(folder, corrupt, names=(GOOD, BAD)):
    """Writes records, corrupting those whose name begins with `BAD`; returns their pattern."""
    path = folder / "train-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name in names:
            example, _ = tfrecords.encode(_video(folder, name, 4))
            if name.startswith(BAD):
                corrupt(folder, example)
            writer.write(example.SerializeToString())
    return str(path)


def set_all(example, key, content):
    for feature in example.feature_lists.feature_list[key].feature:
        feature.bytes_list.value[0] = content


def cut_frame(_, example):
    frame = example.feature_lists.feature_list["image/encoded"].feature[0].bytes_list.value[0]
    set_all(example, "image/encoded", frame[: len(frame) // 2])


def small_mask(_, example):
    small = tf.io.encode_png(np.ones((4, 4, 1), np.uint8)).numpy()
    set_all(example, "segmentation/object/encoded", small)


def no_masks(_, example):
    del example.feature_lists.feature_list["segmentation/object/encoded"]


def batches(pattern, count=4, **settings):
    clips = ClipSettings(crop_size=(30, 30), min_label_count=settings.pop("min_label_count", 10))
    dataset = training_dataset(2, records=pattern, clips=clips, seed=3, **settings)
    with corrupt_records.readable_errors():
        return [{key: value.numpy() for key, value in b.items()} for b in dataset.take(count)]


@pytest.mark.parametrize(
    ("corrupt", "sentence"),
    [
        (cut_frame, "frame 0 of video 'bad' (record 2) cannot be read"),
        (small_mask, "frame 0 of video 'bad' (record 2) cannot be read (image and mask differ"),
        (no_masks, "video 'bad' (record 2) has 4 images but 0 masks"),
    ],
)
def test_a_corrupt_record_is_reported_once_and_skipped(tmp_path, capfd, corrupt, sentence):
    pattern = write(tmp_path, corrupt)
    found = batches(pattern, max_corrupt_records=1)
    assert {name for batch in found for name in batch["video_id"]} == {b"good"}
    [line] = [x for x in capfd.readouterr().err.splitlines() if "skipped" in x]
    assert f"skipped: {pattern}: {sentence}" in line
    assert line.endswith("(1 corrupt of at most 1)")
    if corrupt is cut_frame:
        for one, two in zip(found, batches(pattern, max_corrupt_records=1)):
            np.testing.assert_array_equal(one["images"], two["images"])


def test_more_corrupt_records_than_the_limit_stop_training(tmp_path):
    pattern = write(tmp_path, cut_frame, (GOOD, "bad 1", "bad 2"))
    with pytest.raises(InputError, match="more than training_dataset.max_corrupt_records = 1"):
        batches(pattern, 8, max_corrupt_records=1)
    assert len(batches(pattern, 8, max_corrupt_records=2)) == 8
    with pytest.raises(InputError, match="max_corrupt_records = 1 or more would skip it"):
        batches(pattern, 8)


def test_corrupt_donors_of_pasted_objects_are_skipped(tmp_path):
    pattern = write(tmp_path, cut_frame)
    settings = {"scenes": [_scenes()], "min_label_count": 1}
    found = batches(pattern, max_corrupt_records=1, **settings)
    assert {name for batch in found for name in batch["video_id"]} == {b"good"}


def test_the_complete_records_of_a_truncated_file_are_used(tmp_path, capfd):
    pattern = write(tmp_path, cut_frame, (GOOD, "other"))
    path = tmp_path / "train-00000-of-00001.tfrecord"
    path.write_bytes(path.read_bytes()[:-100])
    found = batches(pattern, max_corrupt_records=1)
    assert {name for batch in found for name in batch["video_id"]} == {b"good"}
    assert "skipped: " in capfd.readouterr().err
    with pytest.raises(InputError, match="the file ends inside record 2"):
        batches(pattern)
