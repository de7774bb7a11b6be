import subprocess
import sys
from pathlib import Path

import build_tfrecords
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from feelvos_tf.data import tfrecords
from feelvos_tf.testing import in_this_process

TOOL = Path(__file__).with_name("build_tfrecords.py")


@pytest.fixture
def root(tmp_path) -> Path:
    for name in ("a", "b", "c"):
        for kind, suffix, mode in (("JPEGImages", "jpg", "RGB"), ("Annotations", "png", "L")):
            folder = tmp_path / kind / "480p" / name
            folder.mkdir(parents=True)
            image = Image.fromarray(np.ones((8, 9), np.uint8)).convert(mode)
            for i in range(3):
                image.save(folder / f"{i:05d}.{suffix}")
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/train.txt").write_text("a\nb\nc\n")
    return tmp_path


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    return in_this_process.run(build_tfrecords, f"--dataset_root={root}", *arguments)


def test_the_tool_writes_ten_shards(root):
    """Runs the program itself, as users do."""
    command = [sys.executable, str(TOOL), f"--dataset_root={root}", f"--output_dir={root}/records"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "3 videos, 9 frames in 10 files" in result.stdout
    paths = sorted((root / "records").glob("*.tfrecord"))
    assert paths[0].name == "train-00000-of-00010.tfrecord"
    assert len(paths) == 10
    dataset = tf.data.TFRecordDataset([str(path) for path in paths])
    assert [tfrecords.parse(raw).video_id.numpy() for raw in dataset] == [b"a", b"b", b"c"]


def test_a_missing_mask_gives_one_sentence_and_leaves_no_files(root):
    (root / "Annotations/480p/b/00002.png").unlink()
    result = _run(root, f"--output_dir={root}/records")
    assert result.returncode == 1
    assert "error: b: expected a mask of frame 00002, found none (3 images in" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (root / "records").exists()


def test_a_corrupt_info_file_fails_before_anything_is_written(root):
    (root / "records").mkdir()
    (root / "records" / "dataset_info.json").write_text("{")
    result = _run(root, f"--output_dir={root}/records")
    assert result.returncode == 1 and "dataset_info.json: expected" in result.stderr
    assert [path.name for path in (root / "records").iterdir()] == ["dataset_info.json"]


@pytest.mark.parametrize("flag", ["--num_shards=0", "--workers=0"])
def test_records_in_no_file_or_by_no_thread_are_refused_with_the_flag(root, flag):
    result = _run(root, f"--output_dir={root}/records", flag)
    assert result.returncode == 1 and f"error: flag {flag}: " in result.stderr


def test_first_frame_only_needs_no_later_masks(root):
    for path in root.glob("Annotations/480p/*/0000[12].png"):
        path.unlink()
    result = _run(root, f"--output_dir={root}/records", "--first_frame_only", "--num_shards=1")
    assert result.returncode == 0, result.stderr
    dataset = tf.data.TFRecordDataset(str(root / "records/train-00000-of-00001.tfrecord"))
    assert [len(tfrecords.parse(raw).masks) for raw in dataset] == [1, 1, 1]


def _names(root: Path) -> list[bytes]:
    dataset = tf.data.TFRecordDataset(sorted(map(str, (root / "records").glob("*.tfrecord"))))
    return [tfrecords.parse(raw).video_id.numpy() for raw in dataset]


def test_validation_sequences_are_omitted(root):
    result = _run(root, f"--output_dir={root}/records", "--except_sequences=b")
    assert result.returncode == 0, result.stderr
    assert _names(root) == [b"a", b"c"]


def test_a_misspelled_sequence_to_omit_is_refused(root):
    result = _run(root, f"--output_dir={root}/records", "--except_sequences=bear")
    assert result.returncode == 1
    assert "error: --except_sequences: expected some of a, b, c, found 'bear'" in result.stderr
    assert not (root / "records").exists()


@pytest.mark.parametrize("dataset", ["stills", "folder", "davis_2017"])
def test_the_current_folder_is_no_default(root, dataset, monkeypatch):
    monkeypatch.chdir(root)
    arguments = f"--dataset={dataset}", f"--output_dir={root}/records"
    result = in_this_process.run(build_tfrecords, *arguments)
    assert result.returncode == 1
    assert "error: expected --dataset_root, the folder of a data set" in result.stderr


def test_stills_become_one_record_each(root):
    for folder, suffix, mode in (("images", "jpg", "RGB"), ("masks", "png", "L")):
        (root / folder).mkdir()
        for name in ("x", "y"):
            image = Image.fromarray(np.ones((8, 9), np.uint8)).convert(mode)
            image.save(root / folder / f"{name}.{suffix}")
    result = _run(root, "--dataset=stills", f"--output_dir={root}/records")
    assert result.returncode == 0, result.stderr
    assert "2 stills in 10 files" in result.stdout
    assert sorted(_names(root)) == [b"x", b"y"]


def test_records_can_be_verified(root):
    where = f"--output_dir={root}/records"
    assert _run(root, where, "--num_shards=2", "--workers=2").returncode == 0
    result = _run(root, where, "--verify")
    assert result.returncode == 0, result.stderr
    assert "3 videos, 9 frames, 3 objects in 2 files: all complete" in result.stdout
    path = root / "records/train-00001-of-00002.tfrecord"
    path.write_bytes(path.read_bytes()[:-1])
    result = _run(root, where, "--verify")
    assert result.returncode == 1
    assert "error: " in result.stderr and "ends inside record" in result.stderr


def test_any_folder_of_frames_and_masks_becomes_records(root):
    result = _run(root, f"--output_dir={root}/records", "--dataset=folder")
    assert result.returncode == 0, result.stderr
    assert "3 videos, 9 frames in 10 files" in result.stdout


def test_one_gray_mask_with_an_opaque_alpha_channel_is_read(root):
    """Like `bear/00077.png` in some copies of DAVIS 2016."""
    path = root / "Annotations/480p/b/00001.png"
    Image.open(path).convert("LA").save(path)
    result = _run(root, f"--output_dir={root}/records", "--num_shards=1")
    assert result.returncode == 0, result.stderr
    assert "3 videos, 9 frames in 1 file" in result.stdout


def test_frames_of_youtube_vos_without_a_mask_are_omitted(tmp_path):
    for kind, suffix, mode in (("JPEGImages", "jpg", "RGB"), ("Annotations", "png", "L")):
        folder = tmp_path / "train" / kind / "v"
        folder.mkdir(parents=True)
        for i in range(0, 11, 1 if suffix == "jpg" else 5):
            image = Image.fromarray(np.ones((8, 9), np.uint8)).convert(mode)
            image.save(folder / f"{i:05d}.{suffix}")
    result = _run(tmp_path, f"--output_dir={tmp_path}/records", "--dataset=youtube_vos")
    assert result.returncode == 0, result.stderr
    assert "1 video, 3 frames in 10 files" in result.stdout
