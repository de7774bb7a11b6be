import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.global_matching import prepare_reference
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.training.clip_forward import clip_logits

SIZE = (49, 65)


def small_model(**settings) -> Feelvos:
    tf.keras.utils.set_random_seed(1)
    model = Feelvos(
        MobileNetV2(depth_multiplier=0.1), atrous_rates=(), embedding_dimension=8, **settings
    )
    model.create_variables()
    for name, variable in release_names(model).items():
        if "bias" in name or "logits" in name:
            variable.assign(0.3 * tf.random.normal(variable.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 3, 7, 8)).repeat(7, 2).repeat(9, 3)[:, :, : SIZE[0], : SIZE[1]]
    return {
        "images": tf.constant(rng.uniform(0, 255, (2, 3, *SIZE, 3)), tf.float32),
        "labels": tf.constant(labels, tf.int32),
        "num_objects": tf.constant([3, 3]),
    }


def logits(model, batch, **changes):
    clips = clip_logits(model, **{**batch, **changes}, training=False)
    return np.stack([clip.logits[..., 0] for clip in clips])


def test_every_clip_gets_logits_and_maps_at_stride_4(model, batch):
    for clip in clip_logits(model, **batch, training=False):
        assert clip.logits.shape == [3, 13, 17, 1]
        assert clip.embeddings.shape == [3, 13, 17, 8]
        for distances in (clip.global_map, clip.local_map):
            assert distances.shape == [3, 13, 17]
            # Rounding may leave a distance just below 0, as in the release.
            assert float(tf.reduce_min(distances)) > -1e-5
            assert float(tf.reduce_max(distances)) <= 1.0


def test_permuting_the_objects_permutes_the_logits(model, batch):
    order = np.array([2, 0, 1])
    labels = tf.gather(tf.constant(np.argsort(order), tf.int32), batch["labels"])
    permuted = logits(model, batch, labels=labels)
    expected = logits(model, batch)[:, order]
    np.testing.assert_allclose(permuted, expected, rtol=1e-3, atol=1e-4)


def test_clips_of_a_batch_do_not_affect_each_other(model, batch):
    alone = logits(model, {name: value[1:] for name, value in batch.items()})
    np.testing.assert_allclose(logits(model, batch)[1:], alone, rtol=1e-3, atol=1e-4)


def test_the_current_frame_s_labels_are_not_used(model, batch):
    labels = batch["labels"].numpy()
    labels[:, 2] = 255
    np.testing.assert_array_equal(logits(model, batch, labels=labels), logits(model, batch))


def test_void_pixels_of_the_reference_match_nothing(model, batch):
    labels = batch["labels"].numpy()
    labels[:, 0] = 255
    for clip in clip_logits(model, **{**batch, "labels": tf.constant(labels)}, training=False):
        np.testing.assert_array_equal(clip.global_map, np.ones([3, 13, 17]))


def test_a_frame_matched_with_itself_has_distance_zero(model, batch):
    images = tf.repeat(batch["images"][:, :1], 3, axis=1)
    labels = tf.repeat(batch["labels"][:, :1], 3, axis=1)
    for clip in clip_logits(model, images, labels, batch["num_objects"], training=False):
        for distances in (clip.global_map, clip.local_map):
            np.testing.assert_allclose(tf.reduce_min(distances, 0), 0.0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "cues"),
    [
        ({}, 3),
        ({"first_frame_matching": False}, 2),
        ({"previous_frame_matching": "none"}, 2),
        ({"previous_frame_matching": "global"}, 3),
        ({"previous_frame_predictions": False}, 2),
        ({"previous_frame_matching": "none", "previous_frame_predictions": False}, 1),
    ],
)
def test_the_switches_of_table_6_remove_cues(settings, cues, batch):
    model = small_model(**settings)
    assert model.head.convolutions[0].depthwise.kernel.shape == [7, 7, 256 + cues, 1]
    [clip, _] = clip_logits(model, **batch, training=False)
    assert clip.logits.shape == [3, 13, 17, 1]


def test_dropout_and_the_pixels_kept_follow_from_the_seed(batch):
    model = small_model(train_max_neighbors_per_object=3, previous_frame_matching="global")
    one, again, other = (
        [
            clip.logits
            for clip in clip_logits(
                model, **batch, training=True, seeds=tf.constant([[seed, 7]] * 2)
            )
        ]
        for seed in (1, 1, 2)
    )
    for first, second, third in zip(one, again, other):
        np.testing.assert_array_equal(first, second)
        assert np.abs(first - third).max() > 0


def test_called_as_a_keras_model_it_returns_features(model, batch):
    images = batch["images"][0]
    features, expected = model(images), model.extract(images)
    assert features.decoder_features.shape == [3, 13, 17, 256]
    for found, value in zip(features, expected):
        np.testing.assert_array_equal(found, value)


def test_parameters_are_counted_without_an_image(capsys):
    model = Feelvos(MobileNetV2())
    model.create_variables()
    assert model.count_params() == 3_102_763
    model.summary()
    assert "embedding" in capsys.readouterr().out


def test_the_metric_learning_network_has_the_release_s_layers_and_votes(batch):
    """`classification_loss = triplet`: the embedding in place of DeepLab's logits, and no head."""
    model = small_model(majority_neighbors=3)
    names = release_names(model)
    assert names["logits/embedding/weights"].shape == (1, 1, 256, 8)
    assert names["logits/embedding/biases"].shape == (8,)
    assert not any(name.startswith(("embedding", "logits/semantic")) for name in names)
    features = model.extract(batch["images"][0])
    kernel = names["logits/embedding/weights"][0, 0]
    linear = features.decoder_features @ kernel + names["logits/embedding/biases"]
    scale = np.abs(linear).max()
    np.testing.assert_allclose(features.embeddings / scale, linear / scale, atol=1e-5)
    [clip, _] = clip_logits(model, **batch, training=False)
    assert clip.logits.shape == [3, 13, 17, 1] and clip.global_map is None
    np.testing.assert_array_equal(tf.reduce_sum(clip.logits, 0), 3.0)


def test_distances_can_be_left_as_they_are_without_previous_frame_matching():
    rng = np.random.default_rng(0)
    frames = tf.constant(rng.normal(size=(2, 5, 6, 4)), tf.float32)
    indices = tf.constant(rng.integers(0, 2, (5, 6)), tf.int32)
    own = {"previous_frame_matching": "none", "normalize_distances": False}
    model = Feelvos(MobileNetV2(0.1, output_stride=16), atrous_rates=(), **own)
    for training in (True, False):
        reference = prepare_reference(frames[0], indices, tf.constant(2))
        found, none = model.distance_maps(frames[1], reference, None, training)
        differences = frames[1].numpy()[:, :, None, None] - frames[0].numpy()
        squared = np.square(differences).sum(-1)
        for i in range(2):
            expected = np.where(indices == i, squared, np.inf).min((2, 3))
            np.testing.assert_allclose(found[i], expected, rtol=1e-4)
        assert none is None and np.max(found) > 1.0
