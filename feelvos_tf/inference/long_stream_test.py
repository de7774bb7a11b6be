"""Memory over a stream of 10,000 frames."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.testing import drawn_videos, small_model

SIZE = (24, 40)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_frames_with_a_correction_every_hundred():
    predictor = VideoPredictor(
        Predictor(small_model.create(), memory_every=5, memory_pixels=20, max_memory_pixels=50),
        max_total_reference_pixels=50,
    )
    frames = [drawn_videos.draw(frame, [3, 7], SIZE) for frame in range(10)]
    predictor.start(*frames[0])
    peaks, sizes = [], []
    for frame in range(1, 10_001):
        image, mask = frames[frame % len(frames)]
        predictor.step(image)
        if frame % 100 == 0:
            predictor.correct(mask, background=True)
        if frame % 1000 == 0:
            predictor.add_objects((mask == 7).astype(np.uint8) * 9)
            predictor.remove(9)
            peaks.append(peak_mib())
            sizes.append({name: array.shape for name, array in predictor.state().items()})
    print(f"peak memory in MiB after every thousand frames: {peaks}")
    assert all(size == sizes[1] for size in sizes[2:])
    assert peaks[-1] - peaks[2] < 15
