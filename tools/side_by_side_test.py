"""Two runs side by side, with the program itself."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np

from feelvos_tf.media import masks, video
from feelvos_tf.testing import drawn_videos

PROGRAM = pathlib.Path(__file__).with_name("side_by_side.py")


def run(tmp_path, right, output="out.mp4"):
    arguments = ["--video=clip.mp4", "--left=left", f"--right={right}", f"--output={output}"]
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True
    )


def test_frames_of_both_runs_are_shown_with_both_masks(tmp_path):
    images, ids = zip(*(drawn_videos.draw(frame, [1, 2]) for frame in range(6)))
    drawn_videos.write_video(tmp_path / "clip.mp4", images, 12)
    for frame in range(6):
        masks.write_mask(tmp_path / "left" / f"{frame:05d}.png", ids[frame])
        if frame % 2:
            masks.write_mask(tmp_path / "right" / f"{frame:05d}.png", np.zeros_like(ids[0]))
    result = run(tmp_path, "right")
    assert result.returncode == 0, result.stderr
    frames = list(video.open_frames(tmp_path / "out.mp4").timed())
    assert [float(frame.time) for frame in frames] == [0, 2 / 12, 4 / 12]
    for frame, shown in zip((1, 3, 5), frames):
        left, right = shown.image[:, :80].astype(int), shown.image[:, 86:166].astype(int)
        inside = ids[frame] > 0
        assert np.abs(left - images[frame])[inside].mean() > 30
        assert np.abs(right - images[frame])[~inside].mean() < 8
    refused = run(tmp_path, "none")
    assert refused.returncode == 1 and "none: expected a folder of masks" in refused.stderr
    before = (tmp_path / "clip.mp4").read_bytes()
    refused = run(tmp_path, "right", "clip.mp4")
    assert refused.returncode == 1 and "found the video itself" in refused.stderr
    assert (tmp_path / "clip.mp4").read_bytes() == before
