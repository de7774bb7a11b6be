"""Shards always have the same bytes, even after interruptions, and can be verified."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from unittest import mock

import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets, record_shards


@pytest.fixture(scope="module")
def videos(request):
    root = request.config.rootpath / "testdata"
    return datasets.list_sequences(root, split="train")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


WRITE = """
import pathlib, sys
from feelvos_tf.data import datasets, record_shards
videos = datasets.list_sequences(sys.argv[1], split="train")
record_shards.write_shards(videos, pathlib.Path(sys.argv[2]), "train", 3, workers=2)
"""


def test_another_process_with_more_threads_writes_the_same_bytes(tmp_path, videos, testdata):
    record_shards.write_shards(videos, tmp_path / "one", "train", 3)
    command = [sys.executable, "-c", WRITE, str(testdata), str(tmp_path / "two")]
    subprocess.run(command, check=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_interrupted_run_resumes_and_no_shard_looks_finished_early(
    tmp_path, videos, monkeypatch
):
    whole = record_shards.write_shards(videos, tmp_path / "whole", "train", 3)
    encode, encoded = record_shards._encode, []

    def ending(sequence):
        if len(encoded) == 4:
            raise KeyboardInterrupt
        encoded.append(sequence.name)
        return encode(sequence)

    monkeypatch.setattr(record_shards, "_encode", ending)
    with pytest.raises(KeyboardInterrupt):
        record_shards.write_shards(videos, tmp_path / "ended", "train", 3)
    assert [path.name for path in (tmp_path / "ended").iterdir()] == [".writing-train"]
    monkeypatch.setattr(record_shards, "_encode", encode)
    left = []

    def progress(items):
        left.extend(items)
        return left

    again = record_shards.write_shards(videos, tmp_path / "ended", "train", 3, progress)
    # Four videos were encoded, two per shard: one or two shards were finished.
    assert 0 < len(left) < len(videos)
    assert contents(tmp_path / "ended") == contents(tmp_path / "whole")
    assert [s[1:] for s in again] == [s[1:] for s in whole]
    assert not (tmp_path / "ended/.writing-train").exists()


def test_leftovers_of_other_videos_are_not_used(tmp_path, videos, monkeypatch):
    encode = record_shards._encode
    monkeypatch.setattr(record_shards, "_encode", lambda sequence: ending(sequence))

    def ending(sequence):
        if sequence is videos[-1]:
            raise KeyboardInterrupt
        return encode(sequence)

    with pytest.raises(KeyboardInterrupt):
        record_shards.write_shards(videos, tmp_path, "train", 3)
    monkeypatch.setattr(record_shards, "_encode", encode)
    shards = record_shards.write_shards(videos[:3], tmp_path, "train", 3)
    assert [v.name for s in shards for v in s.videos] == [v.name for v in videos[:3]]


@pytest.fixture
def written(tmp_path, videos):
    shards = record_shards.write_shards(videos[:3], tmp_path, "train", 2)
    record_shards.write_info(tmp_path, "train", shards, {"dataset": "davis_2017", "split": "train"})
    return tmp_path


def test_dataset_info_describes_the_shards(written, videos):
    info = json.loads((written / "dataset_info.json").read_text())["train"]
    assert info["videos"] == 3 and info["source"]["dataset"] == "davis_2017"
    assert info["frames"] == sum(len(video.frames) for video in videos[:3])
    assert sum(info["sizes"].values()) == 3
    names = [name for shard in info["shards"].values() for name in shard["videos"]]
    assert names == [video.name for video in videos[:3]]
    assert info["objects"] == sum(
        len(v["objects"]) for shard in info["shards"].values() for v in shard["videos"].values()
    )
    assert record_shards.verify(written, "train") == info


def test_changed_records_are_reported(written, tmp_path):
    shard = written / "train-00001-of-00002.tfrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4])
    with pytest.raises(InputError, match="00001-of-00002.tfrecord: the file ends inside record"):
        record_shards.verify(written, "train")
    shard.write_bytes(whole[:1000] + bytes([whole[1000] ^ 255]) + whole[1001:])
    with pytest.raises(InputError, match="00001-of-00002.tfrecord: record 1 is corrupt"):
        record_shards.verify(written, "train")
    shard.write_bytes((written / "train-00000-of-00002.tfrecord").read_bytes())
    with pytest.raises(InputError, match="is not the file that was written"):
        record_shards.verify(written, "train")
    shard.unlink()
    with pytest.raises(InputError, match="expected a shard of dataset_info.json"):
        record_shards.verify(written, "train")
    with pytest.raises(InputError, match="dataset_info.json: expected some of train, found 'val'"):
        record_shards.verify(written, "val")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"train": 5}', '{"train": {"shards": {"a.tfrecord": "abc"}}}', "\xff"]
)
def test_a_corrupt_info_file_is_neither_trusted_nor_replaced(written, content):
    path = written / "dataset_info.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(
        InputError, match="dataset_info.json: expected a file written by tools/build"
    ):
        record_shards.verify(written, "train")
    with pytest.raises(
        InputError, match="dataset_info.json: expected a file written by tools/build"
    ):
        record_shards.write_info(written, "val", [], {})
    assert path.read_text(encoding="latin-1") == content


def test_finished_records_of_other_videos_are_refused_before_encoding(written, videos):
    before = contents(written)
    never = mock.Mock(side_effect=AssertionError)
    for others in (videos[:1], videos[1:4]):
        sentence = r"records of the . videos? .* chosen, found 3 videos .*; choose another output"
        with pytest.raises(InputError, match=sentence):
            record_shards.write_shards(others, written, "train", 2, never)
    assert contents(written) == before
    assert not (written / ".writing-train").exists()


def test_finished_records_of_the_same_videos_with_other_contents_are_refused(written, videos):
    """Such as DAVIS 2016 and 2017, whose videos have the same names."""
    before = contents(written)
    others = [dataclasses.replace(videos[0], masks=videos[0].masks[::-1]), *videos[1:3]]
    sentence = r"00000-of-00002.tfrecord: expected the bytes .*, found others; choose another"
    with pytest.raises(InputError, match=sentence):
        record_shards.write_shards(others, written, "train", 2)
    assert contents(written) == before
    assert not (written / ".writing-train").exists()


def test_the_same_videos_may_be_written_again(written, videos):
    before = contents(written)
    record_shards.write_shards(videos[:3], written, "train", 2)
    assert contents(written) == before


def test_deleted_records_may_be_replaced_by_others(written, videos):
    for path in written.glob("train-*"):
        path.unlink()
    shards = record_shards.write_shards(videos[:1], written, "train", 2)
    assert [v.name for shard in shards for v in shard.videos] == [videos[0].name]


@pytest.mark.parametrize("output", ["records", "deeper/records"])
def test_videos_that_cannot_be_encoded_leave_no_folder(tmp_path, videos, output):
    bad = tmp_path / "bad.png"
    Image.new("L", (8, 8)).save(bad)
    video = dataclasses.replace(videos[0], frames=(bad,), masks=(bad,))
    with pytest.raises(InputError, match="no mask in .* holds an object"):
        record_shards.write_shards([video], tmp_path / output, "train", 1)
    assert list(tmp_path.iterdir()) == [bad]


def test_a_file_in_place_of_the_folder_gives_a_one_line_error(tmp_path, videos):
    (tmp_path / "records").write_text("no folder")
    with pytest.raises(InputError, match="records: cannot be written, a part of the path is a"):
        record_shards.write_shards(videos, tmp_path / "records", "train")
