"""The state of a training run on disk: save, resume, initialise."""

from __future__ import annotations

import os
from collections.abc import Collection

import tensorflow as tf

from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.models import release_checkpoint
from feelvos_tf.training.optimizers import Optimizer
from feelvos_tf.training.weight_averaging import WeightAverage

# Every checkpoint that TensorFlow 2 writes holds this key, those of TensorFlow 1 do not.
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


class RunCheckpoints:
    """Checkpoints of one run: weights, momentum and step, with the settings beside them.

    The objects inside are named `model`, `optimizer` and `step`, and `average` where there is a
    moving average of the weights; whoever needs the weights alone calls `restore_weights`.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        model: tf.keras.Model,
        optimizer: Optimizer,
        step: tf.Variable,
        max_to_keep: int,
        average: WeightAverage | None = None,
    ):
        self._model_dir = model_dir
        self._model = model
        self._step = step
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=step)
        if average is not None:
            self._checkpoint.average = average
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(model_dir), max_to_keep=max_to_keep, checkpoint_name="ckpt"
        )

    @property
    def latest(self) -> str | None:
        """Path of the last checkpoint of this run, None before the first."""
        return self._manager.latest_checkpoint

    def save(self) -> str:
        """Writes a checkpoint named by the step, and the operative config; returns its path."""
        path = self._manager.save(checkpoint_number=int(self._step.numpy()))
        gin_settings.save_operative(self._model_dir)
        return path

    def resume(self) -> bool:
        """Restores the last checkpoint; returns whether there was one.

        A checkpoint of weights alone, such as a converted one, starts with fresh momentum.

        Raises:
          InputError: the checkpoint does not fit the model.
        """
        if self.latest is None:
            return False
        has_momentum = _holds(self.latest, "optimizer/")
        whole = self._checkpoint if has_momentum else _weights(self._model, self._step)
        _restore(whole, self.latest)
        return True

    def initialise(
        self, prefix: str, initialize_last_layer: bool, names: Collection[str]
    ) -> Collection[str]:
        """Starts from other weights, at step 0; returns which variables they set, by release name.

        Args:
          prefix: a DeepLab checkpoint of the TF1 era, or a checkpoint of this project.
          initialize_last_layer: whether a DeepLab checkpoint's ASPP and decoder are taken too,
            not the backbone alone.
          names: of all variables of the model.

        Raises:
          InputError: no such checkpoint, or it does not fit the model.
        """
        if not os.path.exists(prefix + ".index"):
            raise InputError(
                f"Trainer.init_checkpoint: expected a checkpoint {prefix}.index, found no such file"
            )
        if _OBJECT_GRAPH in dict(tf.train.list_variables(prefix)):
            restore_weights(self._model, prefix)
            return names
        restored = release_checkpoint.initialise_from_deeplab(
            self._model, prefix, initialize_last_layer=initialize_last_layer
        )
        return restored.matched


def restore_weights(model: tf.keras.Model, path: str) -> None:
    """Gives the model the weights of a checkpoint of this project: averaged ones, if it has any.

    Args:
      model: with its variables created and its batch norm not folded.
      path: prefix of the checkpoint.

    Raises:
      InputError: the checkpoint does not fit the model.
    """
    _restore(tf.train.Checkpoint(model=model), path)
    if _holds(path, "average/"):
        trainable = {id(variable) for variable in model.trainable_variables}
        names = release_checkpoint.release_names(model)
        average = WeightAverage({n: v for n, v in names.items() if id(v) in trainable}, 0.0)
        _restore(tf.train.Checkpoint(average=average), path)
        average.hand_over()


def _holds(path: str, what: str) -> bool:
    return any(key.startswith(what) for key, _ in tf.train.list_variables(path))


def _weights(model: tf.keras.Model, step: tf.Variable) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(model=model, step=step)


def _restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Restores all that `checkpoint` holds; refuses a file that lacks some or has other shapes."""
    try:
        checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path}: expected a checkpoint of the model as it is configured now, found another "
            f"({reason}); use another --model_dir or the settings of that run"
        ) from error
