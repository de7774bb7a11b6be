import numpy as np
import tensorflow as tf

from feelvos_tf.inference import inference_size


def test_downsampled_mask_loses_no_object_and_invents_no_void():
    mask = np.zeros((480, 854), np.uint8)
    mask[100:300, 200:600] = 4
    mask[33, 57] = 9
    mask[7, 8] = 255
    downsampled = inference_size.downsample_mask(mask, (60, 107))
    assert downsampled.shape == (60, 107)
    assert set(np.unique(downsampled)) == {0, 4, 9}
    assert downsampled[33 * 60 // 480, 57 * 107 // 854] == 9
    assert inference_size.downsample_mask(mask, mask.shape) is mask


def test_two_small_objects_in_one_cell_both_keep_a_pixel():
    mask = np.zeros((480, 854), np.uint8)
    mask[100:300, 200:600] = 4
    mask[33, 57], mask[33, 59], mask[35, 57] = 9, 11, 200
    downsampled = inference_size.downsample_mask(mask, (60, 107))
    assert set(np.unique(downsampled)) == {0, 4, 9, 11, 200}


def test_no_object_takes_the_only_pixel_of_another():
    mask = np.zeros((64, 64), np.uint8)
    # Object 1 alone lies on the points of the grid, in one cell; object 2 just beside it.
    mask[4:8, 4:8] = 1
    mask[7, 7] = 2
    downsampled = inference_size.downsample_mask(mask, (16, 16))
    assert set(np.unique(downsampled)) == {0, 1, 2}
    everywhere = np.random.default_rng(0).permutation(
        np.arange(255).repeat(2)[:484].astype(np.uint8)
    )
    downsampled = inference_size.downsample_mask(everywhere.reshape(22, 22), (16, 16))
    assert set(np.unique(downsampled)) == set(np.unique(everywhere))


def test_upsampled_argmax_is_the_argmax_of_bilinear_probabilities():
    probabilities = np.random.default_rng(0).random((7, 9, 4), np.float32)
    enlarged = tf.image.resize(probabilities, (21, 40), method="bilinear").numpy()
    result = inference_size.upsampled_argmax(probabilities, (21, 40))
    best_two = np.sort(enlarged, axis=-1)[..., -2:]
    clear = best_two[..., 1] - best_two[..., 0] > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(result[clear], enlarged.argmax(-1)[clear])
