"""Builds the model that is scored or exported: one function for all who do so.

A checkpoint so has one score, whoever computes it.
"""

from __future__ import annotations

from feelvos_tf.core import gin_settings
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.feelvos import Feelvos


def build_evaluated_model() -> tuple[Feelvos, Predictor]:
    """Returns the network, with its variables created but not restored, and its predictor.

    Their settings are those bound as `evaluation/...`, and the training's for the rest.

    Raises:
      InputError: a setting is out of range.
    """
    with gin_settings.evaluation_scope():
        model = Feelvos()
        model.create_variables()
        return model, Predictor(model)
