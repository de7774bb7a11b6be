import numpy as np

from feelvos_tf.training import tensorboard

HEIGHT, WIDTH = 12, 16


def clip(num_objects=2):
    rng = np.random.default_rng(0)
    labels = np.zeros((3, HEIGHT, WIDTH), np.int32)
    labels[0, :6], labels[2, 6:] = 1, 1
    return {
        "images": rng.uniform(0, 255, (3, HEIGHT, WIDTH, 3)).astype(np.float32),
        "labels": labels,
        "prediction": np.zeros((HEIGHT, WIDTH), np.int32),
        "global_map": np.linspace(0, 1, num_objects * 12).reshape(num_objects, 3, 4),
        "local_map": np.ones((num_objects, 3, 4)),
    }


def test_the_picture_has_a_row_of_frames_and_a_row_of_maps_per_object():
    gap = tensorboard.GAP
    picture = tensorboard.training_picture(clip(num_objects=3))
    assert picture.shape == (4 * HEIGHT + 3 * gap, 4 * WIDTH + 3 * gap, 3)
    assert picture.dtype == np.uint8
    second = picture[:HEIGHT, WIDTH + gap : 2 * WIDTH + gap]
    np.testing.assert_array_equal(second, clip()["images"][2].astype(np.uint8))
    third = picture[:HEIGHT, 2 * (WIDTH + gap) : 2 * (WIDTH + gap) + WIDTH]
    np.testing.assert_array_equal(third, second)
    fourth = picture[:HEIGHT, 3 * (WIDTH + gap) :]
    assert np.array_equal(fourth[:6], second[:6]) and not np.array_equal(fourth[6:], second[6:])
    first_map = picture[HEIGHT + gap : 2 * HEIGHT + gap, :WIDTH]
    assert first_map[0, 0, 0] == 0 and first_map.max() < 255 / 2
    local_map = picture[HEIGHT + gap : 2 * HEIGHT + gap, WIDTH + gap : 2 * WIDTH + gap]
    assert np.all(local_map == 255)


def test_a_map_that_the_model_does_not_use_is_left_out():
    without = {k: v for k, v in clip().items() if k != "global_map"}
    picture = tensorboard.training_picture(without)
    row = picture[HEIGHT + tensorboard.GAP : 2 * HEIGHT + tensorboard.GAP]
    assert np.all(row[:, :WIDTH] == 255) and np.all(
        row[:, WIDTH + tensorboard.GAP : 2 * WIDTH] == 0
    )
