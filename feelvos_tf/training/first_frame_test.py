"""A network trained on the first frame of a video predicts it better, and is reset afterwards."""

from __future__ import annotations

import gin
import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.synthetic_clips import first_frame_clips
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing import small_model
from feelvos_tf.training.first_frame import FineTunedPredictor, FineTuning

SIZE = (96, 128)
CROP = (65, 97)


@pytest.fixture(scope="module")
def frame():
    """Returns a picture with two objects, ids 3 and 7, and void."""
    image = np.random.default_rng(0).integers(0, 90, (*SIZE, 3), np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    mask[20:60, 20:60], mask[40:90, 70:110], mask[:4] = 3, 7, 255
    image[mask == 3], image[mask == 7] = (250, 20, 20), (20, 20, 250)
    return image, mask


def test_clips_show_all_objects_of_the_frame_and_follow_from_the_seed(frame):
    clips = [list(first_frame_clips(*frame, 4, CROP, seed)) for seed in (1, 1, 2)]
    for clip in clips[0]:
        assert clip["images"].shape == (1, 3, *CROP, 3)
        assert clip["num_objects"].numpy().tolist() == [3]
        reference = clip["images"].numpy()[0, 0], clip["labels"].numpy()[0, 0]
        colors = {int(reference[0][reference[1] == index].mean(0).argmax()) for index in (1, 2)}
        assert colors == {0, 2}
    images = [np.stack([clip["images"] for clip in each]) for each in clips]
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()
    assert (images[0][0] != images[0][1]).any()


def test_objects_too_small_for_every_view_give_no_clip(frame):
    image, mask = frame
    tiny = np.where(mask == 3, 3, 0).astype(np.uint8)
    tiny[5, 5] = 9
    assert not list(first_frame_clips(image, tiny, 3, CROP, 0))


@pytest.fixture(scope="module")
def predictors():
    model = small_model.create()
    gin.parse_config(f"""
        FineTuning.learning_rate = 0.003
        FineTuning.crop_size = {CROP}
        # Of the network's own training, so without effect here.
        LearningRate.schedule = @CosineDecay()
        CosineDecay.initial_learning_rate = 0.0
        CosineDecay.decay_steps = 1
    """)
    predictor = Predictor(model)
    yield model, predictor, FineTunedPredictor(model, predictor, num_steps=12)
    gin.clear_config()


def test_every_video_is_learned_from_the_original_weights(frame, predictors, capsys):
    model, predictor, fine_tuned = predictors
    before = {name: v.numpy() for name, v in release_names(model).items()}
    untrained = _step(predictor, frame)
    fine_tuned.start(*frame)
    first = fine_tuned.step(frame[0])
    after = {name: v.numpy() for name, v in release_names(model).items()}
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed and not any(name.startswith("MobilenetV2") for name in changed)
    assert np.mean(first == frame[1]) > np.mean(untrained == frame[1]) + 0.1
    fine_tuned.start(frame[0][:, ::-1].copy(), frame[1][:, ::-1].copy())
    fine_tuned.start(*frame)
    np.testing.assert_array_equal(fine_tuned.step(frame[0]), first)
    for name, variable in release_names(model).items():
        np.testing.assert_array_equal(variable.numpy(), after[name], err_msg=name)
    with pytest.raises(InputError, match="cannot continue"):
        fine_tuned.restore({})
    assert "fine-tuning" in capsys.readouterr().err


def test_a_frame_that_cannot_be_learned_leaves_the_original_weights(frame, predictors, capsys):
    _, predictor, fine_tuned = predictors
    image, mask = frame[0], np.zeros(SIZE, np.uint8)
    mask[5, 5] = 1
    fine_tuned.start(image, mask)
    ids = fine_tuned.step(image)
    assert "not fine-tuned: the objects of the first frame are too small" in capsys.readouterr().out
    np.testing.assert_array_equal(ids, _step(predictor, (image, mask)))


def _step(predictor, frame):
    ids, _, _ = predictor.step(frame[0], predictor.start(*frame))
    return ids.numpy()


def test_frames_of_many_sizes_share_a_graph(frame, predictors):
    _, _, fine_tuned = predictors
    image, mask = frame
    for height, width in ((96, 128), (60, 90), (58, 88)):
        fine_tuned.start(image[:height, :width].copy(), mask[:height, :width].copy())
    step = fine_tuned._training._train_step
    assert step.__call__.experimental_get_tracing_count() <= 2
    assert int(fine_tuned._training._state.step.numpy()) > 0


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="FineTuning.crop_size: expected tuple"):
        FineTuning(crop_size=(257,))
    with pytest.raises(InputError, match="FineTuning.scales: expected 0 < min_scale"):
        FineTuning(scales=(1.4, 1.0))
