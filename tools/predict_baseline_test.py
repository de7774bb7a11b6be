"""The baselines as a program, on squares that move by known steps."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import predict_baseline
import pytest
from PIL import Image

from feelvos_tf.media import masks
from feelvos_tf.testing import in_this_process

STEP = 3


def scene(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns image [96, 128, 3] and ids: two textured squares that move apart."""
    noise = np.random.default_rng(0).integers(0, 255, (3, 96, 128), dtype=np.uint8)
    texture = [cv2.GaussianBlur(plane, (0, 0), 2) for plane in noise]
    gray, ids = texture[0] // 2, np.zeros((96, 128), np.uint8)
    for value, left, plane in ((2, 40 - STEP * frame, 1), (7, 70 + STEP * frame, 2)):
        gray[30:60, left : left + 24] = texture[plane][30:60, :24] // 2 + 120
        ids[30:60, left : left + 24] = value
    return np.repeat(gray[..., None], 3, axis=-1), ids


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    (folder / "frames").mkdir()
    for frame in range(6):
        image, ids = scene(frame)
        Image.fromarray(image).save(folder / "frames" / f"{frame:05d}.png")
        masks.write_mask(folder / "truth" / f"{frame:05d}.png", ids)
    return folder


def arguments(clip, output):
    mask = f"--mask={clip / 'truth' / '00000.png'}"
    return [f"--video={clip / 'frames'}", mask, f"--output_dir={output}"]


def predict(clip, output, *flags):
    return in_this_process.run(predict_baseline, *arguments(clip, output), *flags)


def run_program(*flags):
    """Runs the program itself, as users do."""
    command = [sys.executable, predict_baseline.__file__, *flags]
    return subprocess.run(command, capture_output=True, text=True)


def test_first_mask_is_repeated(clip, tmp_path):
    result = run_program(*arguments(clip, tmp_path / "out"), "--baseline=first_mask")
    assert result.returncode == 0, result.stderr
    for frame in range(6):
        ids = masks.read_annotation(tmp_path / "out" / f"{frame:05d}.png")
        np.testing.assert_array_equal(ids, scene(0)[1])


def test_a_repeated_mask_is_background_where_the_first_mask_is_void(clip, tmp_path):
    ids = scene(0)[1]
    ids[:10] = 255
    masks.write_mask(tmp_path / "first.png", ids)
    flags = [f"--mask={tmp_path / 'first.png'}", "--baseline=first_mask"]
    result = predict(clip, tmp_path / "out", *flags)
    assert result.returncode == 0, result.stderr
    last = masks.read_annotation(tmp_path / "out" / "00005.png")
    np.testing.assert_array_equal(last, scene(0)[1])


def test_optical_flow_tracks_objects_that_move_apart(clip, tmp_path):
    result = predict(clip, tmp_path / "out", "--baseline=optical_flow")
    assert result.returncode == 0, result.stderr
    last, truth = masks.read_annotation(tmp_path / "out" / "00005.png"), scene(5)[1]
    for value in (2, 7):
        both = ((last == value) & (truth == value)).sum()
        assert both / ((last == value) | (truth == value)).sum() > 0.8


def test_masks_of_one_baseline_are_not_reused_for_the_other(clip, tmp_path):
    predict(clip, tmp_path / "out", "--baseline=first_mask")
    result = predict(clip, tmp_path / "out", "--baseline=optical_flow")
    assert "5 frames" in result.stdout
    again = predict(clip, tmp_path / "out", "--baseline=optical_flow")
    assert "already complete" in again.stdout


def test_unknown_or_missing_baseline_is_refused(clip, tmp_path):
    for flags in ([], ["--baseline=magic"]):
        result = run_program(*arguments(clip, tmp_path / "out"), *flags)
        assert result.returncode != 0 and "baseline" in result.stderr
