"""Builds the model as it is scored and exported.

Export, `feelvos_tf.evaluate` and the validation in training all do it by this one function, so that
a checkpoint has one score.
"""

from __future__ import annotations

from feelvos_tf.core import gin_settings
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.weights import load_weights


def build_evaluated_model(checkpoint: str | None = None) -> tuple[Feelvos, Predictor]:
    """Returns the network and its predictor.

    Their settings are those bound as `evaluation/...`, and the training's for the rest.

    Args:
      checkpoint: prefix of the weights, which are loaded and fused for good; None for variables
        with random values, to be assigned later, as often as one likes.

    Raises:
      InputError: a setting is out of range, or the checkpoint does not fit the model.
    """
    with gin_settings.evaluation_scope():
        model = Feelvos()
        model.create_variables()
        if checkpoint is not None:
            load_weights(model, checkpoint)
            model.fuse_batch_norm()
        return model, Predictor(model)
