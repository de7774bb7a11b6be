"""Everything that gin files may bind: gin knows a name only once its module has been imported.

Programs import this module before they parse settings, so that one gin file serves training,
evaluation, export and prediction alike.
"""

# ruff: noqa: F401
from feelvos_tf.data import input_pipeline, mask_damage, paper_clips, scene_composing
from feelvos_tf.inference import predictor
from feelvos_tf.models import feelvos
from feelvos_tf.models.backbones import mobilenet_v2, resnet, xception
from feelvos_tf.training import (
    checkpoints,
    devices,
    first_frame,
    losses,
    mixed_precision,
    optimizers,
    summaries,
    train_step,
    trainer,
    triplet_loss,
    validation,
)
