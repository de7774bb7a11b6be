import numpy as np

from feelvos_tf.training.training_iou import mean_object_iou


def test_training_miou_equals_the_release_s(golden):
    release = np.load(golden / "ious.npz")
    predicted, truth = release["pred"].astype(np.int32), release["gt"].astype(np.int32)
    np.testing.assert_allclose(
        mean_object_iou(predicted, truth, 3), release["multi_object_miou_tf"], rtol=1e-5
    )
    np.testing.assert_allclose(
        [mean_object_iou(p, t, 3) for p, t in zip(predicted, truth)],
        release["multi_object_miou_tf_frames"],
        rtol=1e-5,
    )
    assert float(mean_object_iou(predicted, np.zeros_like(truth), 3)) == 1.0


def test_training_miou_leaves_void_out():
    labels = np.array([[0, 1, 255, 255]], np.int32)
    assert float(mean_object_iou(np.array([[0, 1, 1, 0]], np.int32), labels, 2)) == 1.0
