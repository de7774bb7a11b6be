"""Region similarity J against the IoU that the release computes when it segments videos."""

import numpy as np

from feelvos_tf.evaluation.region_and_contour import score_frame, statistics


def test_j_equals_the_release_s_iou_frame_by_frame_and_over_the_scored_frames(golden):
    release = np.load(golden / "ious.npz")
    truth, predicted = release["gt"].astype(np.uint8), release["pred"].astype(np.uint8)
    objects = release["label_set"][1:].tolist()
    found = [score_frame(t, p, objects, measure_f=False)[0] for t, p in zip(truth, predicted)]
    np.testing.assert_allclose(found, release["ious"], atol=1e-9)
    # Both leave out the first frame and the last.
    means = [statistics(values).mean for values in np.transpose(found)[:, 1:-1]]
    np.testing.assert_allclose(means, release["sequence_ious"], atol=1e-9)


def test_the_golden_frames_hold_empty_objects(golden):
    """Where truth and prediction are both empty the release says 1, where only truth is, 0."""
    release = np.load(golden / "ious.npz")
    empty = [not (frame == 2).any() for frame in release["gt"]]
    assert release["ious"][empty, 1].tolist() == [1.0, 0.0]
