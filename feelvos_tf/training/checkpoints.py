"""Saves the state of a training run, and restores it from the last checkpoint that is whole."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
from collections.abc import Collection, Mapping

import tensorflow as tf

from feelvos_tf.core import atomic_files, gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.models import packed_weights, release_checkpoint
from feelvos_tf.models.release_checkpoint import DamagedCheckpointError
from feelvos_tf.models.weights import checkpoint_of, holds_weights_by_name, load_weights
from feelvos_tf.training.devices import Workers
from feelvos_tf.training.loss_scale import LossScale
from feelvos_tf.training.optimizers import Optimizer
from feelvos_tf.training.progress_log import say
from feelvos_tf.training.weight_averaging import WeightAverage

# Every checkpoint that TensorFlow 2 writes holds this key, those of TensorFlow 1 do not.
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NAME = "ckpt"
# TensorFlow's reader raises an IndexError for a file that is cut short.
_DAMAGE = (tf.errors.OpError, IndexError)


class RunCheckpoints:
    """Checkpoints of one run: weights, momentum and step, with the settings beside them.

    All by the variables' names in the 2019 release: see `models.weights`, which reads the weights
    alone.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        model: tf.keras.Model,
        named_variables: Mapping[str, tf.Variable],
        optimizer: Optimizer,
        step: tf.Variable,
        max_to_keep: int,
        average: WeightAverage | None = None,
        loss_scale: LossScale | None = None,
        workers: Workers | None = None,
    ):
        """Finds the checkpoints that are there already, of which none is read yet.

        Args:
          model_dir: folder of the run.
          model: with its variables created.
          named_variables: all of them by their names in the 2019 release.
          optimizer: whose slots are saved, too.
          step: int64 [], number of updates made so far.
          max_to_keep: older ones are deleted.
          average: of the weights, if there is one.
          loss_scale: of a training in float16.
          workers: that train together: all read, only the chief writes; None for one process.
        """
        self._workers = workers
        if self._is_chief:
            _remove_unfinished(pathlib.Path(model_dir))
            _find_again(pathlib.Path(model_dir))
        self._model_dir = model_dir
        self._model = model
        self._named_variables = dict(named_variables)
        self._optimizer = optimizer
        self._step = step
        self._average = {} if average is None else {"average": average.state}
        self._loss_scale = {} if loss_scale is None else {"loss_scale": loss_scale}
        others = {**self._average, **self._loss_scale}
        self._checkpoint = checkpoint_of(named_variables, optimizer=optimizer, step=step, **others)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(model_dir), max_to_keep=max_to_keep, checkpoint_name=_NAME
        )

    @property
    def _is_chief(self) -> bool:
        return self._workers is None or self._workers.is_chief

    @property
    def latest(self) -> str | None:
        """Path of the last checkpoint of this run, None before the first."""
        return self._manager.latest_checkpoint

    def save(self) -> str:
        """Writes a checkpoint named by the step, and the operative config; returns its path.

        Raises:
          InputError: the disk does not take it; nothing of it is left there.
        """
        try:
            path = self._manager.save(checkpoint_number=int(self._step.numpy()))
        except tf.errors.OpError as error:
            _remove_unfinished(pathlib.Path(self._model_dir))
            raise InputError(
                f"{self._model_dir}: a checkpoint cannot be written ({_reason(error)})"
            ) from error
        gin_settings.save_operative(self._model_dir)
        return path

    def resume(self) -> str | None:
        """Restores the last checkpoint; returns its path, None if there is none.

        A damaged one is named and the one before it taken. A checkpoint of weights alone, such as a
        converted one, starts with fresh momentum. Of several workers the chief chooses.

        Raises:
          InputError: a checkpoint does not fit the model, or all are damaged.
        """
        path = self._resume_from_newest() if self._is_chief else None
        if self._workers is None:
            return path
        step = self._workers.from_chief(int(path.rsplit("-", 1)[1]) if path else -1)
        if self._is_chief or step < 0:
            return path
        path = os.path.join(self._model_dir, f"{_NAME}-{step}")
        if not os.path.exists(path + ".index"):
            raise InputError(
                f"{path}: expected the checkpoint that the chief goes on from, found no such file; "
                "--model_dir must be a folder that all workers share"
            )
        self._restore_state(path)
        return path

    def _resume_from_newest(self) -> str | None:
        paths = self._manager.checkpoints
        for path in reversed(paths):
            try:
                self._restore_state(path)
            except DamagedCheckpointError as error:
                say(f"{error}; trying the one before")
            else:
                return path
        if paths:
            raise InputError(
                f"{self._model_dir}: expected a checkpoint to go on from, found damaged ones alone "
                f"({', '.join(os.path.basename(path) for path in paths)})"
            )
        return None

    def _restore_state(self, path: str) -> None:
        names = [name for name, _ in _list_variables(path)]
        others = {"step": self._step, **self._average}
        if any(name.startswith("optimizer/") for name in names):
            others["optimizer"] = self._optimizer
        if any(name.startswith("loss_scale/") for name in names):
            others.update(self._loss_scale)
        if holds_weights_by_name(names):
            _restore(checkpoint_of(self._named_variables, **others), path)
        else:
            say(f"{path}: written by version 0.1, weights are found by their place in the network")
            load_weights(self._model, path, averaged=False)
            _restore(tf.train.Checkpoint(**others), path)

    def initialize(self, prefix: str, initialize_last_layer: bool) -> Collection[str]:
        """Starts from other weights, at step 0; returns which variables they set, by release name.

        Args:
          prefix: a DeepLab checkpoint of the TF1 era, a checkpoint of this project, or a file of
            packed weights (.npz), such as the bundled model's.
          initialize_last_layer: whether a DeepLab checkpoint's ASPP and decoder are taken too,
            not the backbone alone.

        Raises:
          InputError: no such checkpoint, or it does not fit the model.
        """
        if prefix.endswith(".npz"):
            packed_weights.load(self._model, prefix)
            return list(self._named_variables)
        if not os.path.exists(prefix + ".index"):
            raise InputError(
                f"Trainer.init_checkpoint: expected a checkpoint {prefix}.index, found no such file"
            )
        if _OBJECT_GRAPH in dict(_list_variables(prefix)):
            load_weights(self._model, prefix)
            return list(self._named_variables)
        restored = release_checkpoint.initialize_from_deeplab(
            self._model, prefix, initialize_last_layer=initialize_last_layer
        )
        return restored.matched


def _restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Restores all that `checkpoint` holds; refuses a file that lacks some or has other shapes."""
    try:
        checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        raise InputError(
            f"{path}: expected a checkpoint of the model as it is configured now, found another "
            f"({_reason(error)}); use another --model_dir or the settings of that run"
        ) from error
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _list_variables(path: str) -> list[tuple[str, list[int]]]:
    try:
        return tf.train.list_variables(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{path}: the checkpoint is damaged ({_reason(error)})")


def _reason(error: Exception) -> str:
    """Returns the first line of TensorFlow's message, without the name of the node."""
    return re.sub(r"\{\{.*?\}\}\s*", "", str(error).strip().splitlines()[0]).split(" [Op:")[0]


def _remove_unfinished(folder: pathlib.Path) -> None:
    """Deletes what is left of a checkpoint whose writing was killed or found the disk full.

    TensorFlow first writes to names of its own, which nobody would read or delete again.
    """
    for pattern in (f"{_NAME}-*_temp*", f"{_NAME}-*.tempstate*", "checkpoint.tmp*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _find_again(folder: pathlib.Path) -> None:
    """Writes the file `checkpoint`, by which TensorFlow knows the others, where it is missing.

    Or where it has no times, as after an edit by hand: TensorFlow would then find none.
    """
    if not folder.is_dir():
        return
    state = tf.train.get_checkpoint_state(str(folder))
    if state and state.all_model_checkpoint_timestamps:
        return
    steps = sorted(
        int(found[1])
        for found in (re.fullmatch(rf"{_NAME}-(\d+)\.index", p.name) for p in folder.iterdir())
        if found
    )
    if steps:
        say(f"{folder}: no usable file `checkpoint`, found {len(steps)} checkpoints without it")
        lines = [f'model_checkpoint_path: "{_NAME}-{steps[-1]}"']
        for step in steps:
            written = (folder / f"{_NAME}-{step}.index").stat().st_mtime
            lines.append(f'all_model_checkpoint_paths: "{_NAME}-{step}"')
            lines.append(f"all_model_checkpoint_timestamps: {written}")
        with atomic_files.replacing(folder / "checkpoint") as temporary:
            temporary.write_text("\n".join(lines) + "\n")
