"""The TFLite file, compared with the predictor with the same reference pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.deploy import tflite_model
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.testing import drawn_videos, small_model

SIZE = (49, 81)


@pytest.fixture(scope="module")
def predictor():
    # TFLite files have no memory, which makes no difference before the fifth frame.
    return Predictor(small_model.create(), memory_every=5)


def frame(number: int):
    return drawn_videos.draw(number, [1, 2], SIZE)


def run(start, step) -> list[np.ndarray]:
    """Returns ids and probabilities of two frames; both functions use named tensors."""
    image, mask = frame(0)
    state = start(image=image, mask=mask)
    results = []
    for number in (1, 2):
        found = step(image=frame(number)[0], **state)
        state = {name: found[name] for name in state}
        results += [np.asarray(found["ids"]), np.asarray(found["probabilities"])]
    return results


def of_predictor(predictor: Predictor) -> list[np.ndarray]:
    def step(image, **state):
        ids, probabilities, after = predictor.step(image, state)
        return {"ids": ids, "probabilities": probabilities, **after}

    return run(lambda image, mask: predictor.start(image, mask), step)


def test_with_room_for_all_reference_pixels_the_results_equal_the_predictors(predictor):
    """300 is more than any object has on the grid of 13x21 pixels."""
    content = tflite_model.convert(predictor, SIZE, 3, reference_pixels=300)
    interpreter = tf.lite.Interpreter(model_content=content)
    signatures = (interpreter.get_signature_runner(name) for name in ("start", "step"))
    try:
        results = run(*signatures)
    except RuntimeError as error:
        if "Flex delegate" not in str(error):
            raise
        pytest.skip(f"TensorFlow {tf.__version__} interprets no TensorFlow operations in TFLite")
    all_expected = of_predictor(predictor)
    assert len(results) == len(all_expected)
    for found, expected in zip(results, all_expected):
        if found.dtype == np.uint8:
            assert np.mean(found != expected) < 0.002
        else:
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_reference_pixels_are_spread_over_large_objects_and_repeated_in_small_ones(predictor):
    image, mask = frame(0)
    mask[0, :2] = 2
    mask[mask == 1] = 0
    mask[20, 20] = 1
    module = tflite_model.FixedPredictor(predictor, SIZE, num_objects=3, reference_pixels=20)
    state = module.start(image=tf.constant(image), mask=tf.constant(mask))
    np.testing.assert_array_equal(state["reference_offsets"], [0, 20, 40, 60])
    full = predictor.start(image, mask)
    offsets, pixels = full["reference_offsets"], full["reference_embeddings"].numpy()
    for i in range(3):
        own = pixels[offsets[i] : offsets[i + 1]]
        chosen = state["reference_embeddings"][20 * i : 20 * (i + 1)].numpy()
        places = np.arange(20) * len(own) // 20 if len(own) > 20 else np.arange(20) % len(own)
        np.testing.assert_allclose(chosen, own[places], atol=1e-5)


def test_unsupported_conversions_are_reported_in_one_sentence(predictor):
    for given, precision, sentence in (
        (Predictor(small_model.create(), scales=(1.0, 0.5)), "float32", r"scales = \(1.0,\)"),
        (Predictor(small_model.create(), flip=True), "float32", "without Predictor.flip"),
        (predictor, "int4", "one of float32, float16, int8, found 'int4'"),
    ):
        with pytest.raises(InputError, match=sentence):
            tflite_model.convert(given, SIZE, 3, precision)
