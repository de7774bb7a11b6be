from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf import predict
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.media import pictures
from feelvos_tf.testing import drawn_videos, in_this_process, small_model

FRAMES = 3


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Returns the SavedModel of an untrained network, and the network."""
    model = small_model.create()
    folder = tmp_path_factory.mktemp("models") / "model"
    tf.saved_model.save(Predictor(model), str(folder))
    return folder, model


def test_every_frame_s_embeddings_are_saved_beside_its_mask(saved_model, tmp_path):
    folder, model = saved_model
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 3]}, FRAMES)
    arguments = (
        f"--saved_model={folder}",
        f"--davis_root={root}",
        f"--output_dir={tmp_path / 'masks'}",
        f"--save_embeddings={tmp_path / 'embeddings'}",
    )
    for _ in range(2):
        done = in_this_process.run(predict, *arguments)
        assert f"embeddings: {tmp_path / 'embeddings'}" in done.stdout, done.stderr
        saved = sorted((tmp_path / "embeddings" / "bear").iterdir())
        assert [path.name for path in saved] == [f"{frame:05d}.npz" for frame in range(FRAMES)]
        for frame, path in enumerate(saved):
            image = pictures.read_image(root / f"JPEGImages/480p/bear/{frame:05d}.jpg")
            expected = model.extract(image[np.newaxis]).embeddings[0]
            found = np.load(path)["embeddings"]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
            path.unlink()
