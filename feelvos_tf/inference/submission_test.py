"""The zip for a server, written with the flags shared by all programs; needs no model."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from absl import flags
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.inference import command_line, input_video, submission
from feelvos_tf.media import masks
from feelvos_tf.testing import by_color, drawn_videos

SEQUENCES = {"bear": [1, 5], "cows": [2]}


def predict(*arguments):
    flag_values = flags.FlagValues()
    program = command_line.CommandLine(flag_values)
    flag_values(["predict", *map(str, arguments)])
    program.run(by_color.ByColor, {})


@pytest.fixture
def root(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", SEQUENCES, num_frames=3)
    (root / "ImageSets/2017/val.txt").rename(root / "ImageSets/2017/test-dev.txt")
    for sequence in SEQUENCES:  # As in test-dev, only the first mask.
        for frame in (1, 2):
            (root / f"Annotations/480p/{sequence}/{frame:05d}.png").unlink()
    return root


@pytest.fixture
def arguments(root, tmp_path):
    return (
        f"--dataset_root={root}",
        "--split=test-dev",
        f"--output_dir={tmp_path / 'out'}",
        f"--submission={tmp_path / 'test-dev.zip'}",
    )


def test_a_davis_submission_holds_all_masks_and_nothing_else(arguments, tmp_path, capsys):
    predict(*arguments, "--save=csv,rle")
    assert f"submission: {tmp_path / 'test-dev.zip'}, 6 masks of 2" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "test-dev.zip") as archive:
        names = [f"{sequence}/{frame:05d}.png" for sequence in SEQUENCES for frame in range(3)]
        assert archive.namelist() == names
        for name in names:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert (image.mode, image.size) == ("P", (80, 48))
                assert set(np.unique(image)) == {0, *SEQUENCES[name.split("/")[0]]}


def test_complete_masks_are_packed_by_a_later_run(arguments, tmp_path):
    predict(*arguments[:-1])
    assert not (tmp_path / "test-dev.zip").exists()
    predict(*arguments)
    assert zipfile.is_zipfile(tmp_path / "test-dev.zip")


def test_a_youtube_vos_submission_holds_the_listed_frames(root, tmp_path):
    base = tmp_path / "ytvos/valid"
    shutil.copytree(root / "JPEGImages/480p/bear", base / "JPEGImages/bear")
    shutil.copytree(root / "Annotations/480p/bear", base / "Annotations/bear")
    objects = {key: {"frames": ["00000", "00002"]} for key in ("1", "5")}
    (base / "meta.json").write_text(json.dumps({"videos": {"bear": {"objects": objects}}}))
    predict(
        "--dataset=youtube_vos",
        f"--dataset_root={tmp_path / 'ytvos'}",
        f"--output_dir={tmp_path / 'out'}",
        f"--submission={tmp_path / 'valid.zip'}",
    )
    with zipfile.ZipFile(tmp_path / "valid.zip") as archive:
        assert archive.namelist() == ["Annotations/bear/00000.png", "Annotations/bear/00002.png"]


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (None, "expected a mask PNG, found no such file"),
        (np.zeros((24, 40), np.uint8), "expected an indexed PNG of 80x48 pixels"),
        (np.full((48, 80), 3, np.uint8), "expected the given objects 1, 5, found 3"),
    ],
)
def test_no_zip_is_written_with_a_mask_that_a_server_would_reject(
    arguments, tmp_path, ids, sentence
):
    predict(*arguments[:-1])
    mask = tmp_path / "out/bear/00001.png"
    mask.unlink()
    if ids is not None:
        masks.write_mask(mask, ids)
    videos = input_video.from_dataset(
        datasets.list_sequences(tmp_path / "davis", split="test-dev", require_masks="first")
    )
    with pytest.raises(InputError, match=f"00001.png: {sentence}"):
        submission.write(
            str(tmp_path / "a.zip"),
            "davis_2017",
            videos,
            lambda video: tmp_path / "out" / video.name,
        )
    assert not list(tmp_path.glob("*.zip"))


def test_invalid_submissions_are_rejected_before_anything_runs(arguments, root):
    for wrong, sentence in (
        (["--sequences=bear"], "expected a whole split"),
        (["--submission=masks.tar"], "expected a name that ends in .zip"),
        (
            ["--dataset=youtube_objects"],
            "expected some of davis_2017, youtube_vos, found .youtube_objects",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            predict(*arguments, *wrong)
    frames = root / "JPEGImages/480p/bear"
    with pytest.raises(InputError, match="--submission needs --dataset_root"):
        predict(f"--video={frames}", "--mask=a.png", "--output_dir=out", "--submission=a.zip")
