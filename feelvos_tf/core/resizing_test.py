import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.resizing import resize_bilinear, resize_nearest


@pytest.fixture(scope="module")
def release(golden):
    """What the 2019 release computes."""
    with np.load(golden / "preprocess.npz") as arrays:
        return dict(arrays)


def test_bilinear_resizing_equals_the_release_s(release):
    names = [name for name in release if name.startswith("bilinear_")]
    sizes = [name[9:] for name in names if not name.endswith("_in")]
    for size in sizes:
        height, width = map(int, size.split("_")[-1].split("x"))
        source = release["bilinear_1x1_in" if "to" in size else "bilinear_in"]
        found = resize_bilinear(source, [height, width])
        np.testing.assert_allclose(found, release[f"bilinear_{size}"], atol=1e-5, err_msg=size)
    assert len(sizes) == 7


def test_nearest_resizing_picks_the_release_s_rows_and_columns(release):
    sizes = zip(release["nearest_in_sizes"], release["nearest_out_sizes"])
    for case, (source, target) in enumerate(sizes):
        rows = np.broadcast_to(np.arange(source[0])[:, None], source)
        columns = np.broadcast_to(np.arange(source[1]), source)
        reduced = resize_nearest(tf.constant(np.stack([rows, columns])), target)
        np.testing.assert_array_equal(reduced[0, :, 0], release[f"nearest_{case}_rows"])
        np.testing.assert_array_equal(reduced[1, 0], release[f"nearest_{case}_cols"])
        if f"nearest_{case}_in" in release:
            labels = tf.constant(release[f"nearest_{case}_in"][..., 0])
            expected = release[f"nearest_{case}_out"][..., 0]
            np.testing.assert_array_equal(resize_nearest(labels, target), expected)


def test_nearest_resizing_picks_the_release_s_pixels_for_every_pair_of_sizes(release):
    pairs = [name for name in release if name.startswith("nearest_pair_")]
    assert len(pairs) > 40
    for name in pairs:
        source, target = map(int, name.split("_")[2:])
        reduced = resize_nearest(tf.range(source)[:, None], (target, 1))
        np.testing.assert_array_equal(reduced[:, 0], release[name], name)


def test_nearest_resizing_equals_tensorflow_s_kernel_when_enlarging():
    labels = tf.random.stateless_uniform([2, 37, 53], [1, 2], 0, 9, tf.int32)
    for size in [(48, 68), (41, 53), (74, 106), (1, 1), (37, 1)]:
        kernel = tf.raw_ops.ResizeNearestNeighbor(
            images=labels[..., None], size=size, align_corners=True
        )
        np.testing.assert_array_equal(resize_nearest(labels, size), kernel[..., 0])
