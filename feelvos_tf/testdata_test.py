"""The clip in `testdata/` and its mask."""

from __future__ import annotations

import numpy as np

from feelvos_tf.media import masks, video


def test_the_clip_opens_and_its_mask_fits(testdata):
    frames = list(video.open_frames(testdata / "bunny.mp4"))
    mask = masks.read_annotation(testdata / "bunny.png")
    assert len(frames) == 36
    assert {frame.shape for frame in frames} == {(*mask.shape, 3)}
    assert masks.object_ids(mask) == [1]
    assert 0.1 < (mask == 1).mean() < 0.2
    # Fur is gray, the meadow around it green or dark.
    inside, around = frames[0][mask == 1], frames[0][mask == 0]
    assert np.ptp(inside, -1).mean() < 40 < np.ptp(around, -1).mean()


def test_the_clip_is_small_and_credited(testdata):
    assert sum((testdata / f"bunny.{kind}").stat().st_size for kind in ("mp4", "png")) < 400_000
    text = (testdata / "README.md").read_text()
    assert "Blender Foundation" in text and "creativecommons.org/licenses/by/3.0" in text
