"""Saves the state of a training run, restores the last intact checkpoint, and locks the folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Collection, Iterator, Mapping

import tensorflow as tf

from feelvos_tf.core import gin_settings, settings, whole_files, working_folder
from feelvos_tf.core.errors import InputError, first_line
from feelvos_tf.models import packed_weights, release_checkpoint, weights
from feelvos_tf.models.release_checkpoint import DamagedCheckpointError, read_shapes
from feelvos_tf.models.weights import checkpoint_of, load_weights
from feelvos_tf.training.devices import Workers
from feelvos_tf.training.progress_log import say
from feelvos_tf.training.train_step import TrainState

# Checkpoints of TensorFlow 2 hold this key; those of TensorFlow 1 do not.
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NAME = "ckpt"
# Parts of the state that may be missing from a checkpoint; they then start afresh.
_OPTIONAL = ("optimizer", "average", "loss_scale")
# TensorFlow's reader raises an IndexError for a truncated file.
_DAMAGE = (tf.errors.OpError, IndexError)
_LOCK_FILE = ".training.lock"


@settings.configurable
class Checkpoints:
    """Checkpoints of one run (weights, optimizer, averages, step), with its settings next to them.

    Variables have their names in the 2019 release; `models.weights` reads the weights alone.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        model: tf.keras.Model,
        named_variables: Mapping[str, tf.Variable],
        state: TrainState,
        workers: Workers,
        max_to_keep: settings.PositiveInt = 5,
    ):
        """Finds the existing checkpoints without reading them; writes nothing.

        Args:
          model_dir: folder of the run.
          model: with its variables created.
          named_variables: all of them by their names in the 2019 release.
          state: saved along with the variables.
          workers: the processes of the run: all read, only the chief writes.
          max_to_keep: older checkpoints are deleted.
        """
        self._workers = workers
        self._model_dir = model_dir
        self._model = model
        self._named_variables = dict(named_variables)
        self._state = state
        self.max_to_keep = max_to_keep
        checkpoint = checkpoint_of(named_variables, **self._saved(*_OPTIONAL))
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(model_dir), max_to_keep=max_to_keep, checkpoint_name=_NAME
        )

    def _saved(self, *optional: str) -> dict[str, tf.Module | tf.Variable]:
        """Returns what is saved besides the weights; of optional parts, only the named ones."""
        parts = {name: getattr(self._state, name) for name in ("step", *optional)}
        if parts.get("average") is not None:
            parts["average"] = self._state.average.state
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def latest(self) -> str | None:
        """Path of the last checkpoint of this run, None before the first."""
        return self._manager.latest_checkpoint

    def save(self) -> str:
        """Writes the settings and then a checkpoint named after the step; returns its path.

        In this order, because `feelvos_tf.evaluate` reads the settings once it sees a checkpoint.

        Raises:
          InputError: it cannot be written; no partial files are left behind.
        """
        gin_settings.save_operative(self._model_dir)
        try:
            return self._manager.save(checkpoint_number=int(self._state.step.numpy()))
        except tf.errors.OpError as error:
            _remove_unfinished(pathlib.Path(self._model_dir))
            raise InputError(
                f"{self._model_dir}: a checkpoint cannot be written ({first_line(error)})"
            ) from error

    def resume(self) -> str | None:
        """Restores the last checkpoint; returns its path, None if there is none.

        A damaged checkpoint is reported, and the one before it is restored. After a checkpoint of
        weights alone, such as a converted one, the optimizer starts afresh. The chief chooses for
        all workers.

        Raises:
          InputError: a checkpoint does not fit the model or its optimizer, or all are damaged.
        """
        path = self._resume_from_newest() if self._workers.is_chief else None
        step = self._workers.from_chief(int(path.rsplit("-", 1)[1]) if path else -1)
        if self._workers.is_chief or step < 0:
            return path
        path = os.path.join(self._model_dir, f"{_NAME}-{step}")
        what = "the checkpoint that the chief resumes from, in a folder that all workers share"
        whole_files.check_is_file(f"{path}.index", what)
        self._restore_state(path)
        return path

    def _resume_from_newest(self) -> str | None:
        paths = self._manager.checkpoints or _paths_in(self._model_dir)
        for path in reversed(paths):
            try:
                self._restore_state(path)
            except DamagedCheckpointError as error:
                say(f"{error}; trying the one before")
            else:
                return path
        if paths:
            raise InputError(
                f"{self._model_dir}: expected a checkpoint to resume from, found only damaged ones "
                f"({', '.join(os.path.basename(path) for path in paths)})"
            )
        return None

    def _restore_state(self, path: str) -> None:
        """Restores all; refuses a checkpoint that lacks parts of it or has other shapes."""
        try:
            checkpoint = self._fitting(path, dict(tf.train.list_variables(path)))
            checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
        except AssertionError as error:
            raise InputError(
                f"{path}: expected the optimizer's state of all layers that are trained now, found "
                "that of some; keep that run's Feelvos.freeze_backbone, or start in another "
                "--model_dir with this checkpoint as InitialWeights.checkpoint"
            ) from error
        except _DAMAGE as error:
            raise DamagedCheckpointError(
                f"{path}: the checkpoint is damaged ({first_line(error)})"
            ) from error

    def _fitting(self, path: str, shapes: Mapping[str, list[int]]) -> tf.train.Checkpoint:
        """Returns what is to be restored from a checkpoint with these contents.

        Raises:
          InputError: the contents do not fit; the message names a variable or a setting.
        """
        # TensorFlow would not name the variable that does not fit.
        for name, variable in self._named_variables.items():
            weights.key_of(name, variable, shapes, path)
        parts = {name.split("/")[0] for name in shapes}
        slots = {name.split("/")[1] for name in shapes if name.startswith("optimizer/")}
        if not all(hasattr(self._state.optimizer, slot) for slot in slots):
            raise InputError(
                f"{path}: expected a checkpoint of Trainer.optimizer = "
                f"@{type(self._state.optimizer).__name__}, found one of another optimizer "
                f"({', '.join(sorted(slots))}); use another --model_dir or that run's optimizer"
            )
        optional = [name for name in _OPTIONAL if name in parts]
        return checkpoint_of(self._named_variables, **self._saved(*optional))

    def initialize(self, prefix: str, last_layers: bool) -> Collection[str]:
        """Loads the weights of a fresh run; returns the release names of the variables set.

        Args:
          prefix: a TF1 DeepLab checkpoint, a checkpoint of this project, or packed weights (.npz)
            such as the bundled model's.
          last_layers: whether a DeepLab checkpoint's ASPP and decoder are loaded in addition to
            the backbone.

        Raises:
          InputError: no such checkpoint, or it does not fit the model.
        """
        if prefix.endswith(".npz"):
            packed_weights.load(self._model, prefix)
        elif _OBJECT_GRAPH in read_shapes(prefix):
            load_weights(self._model, prefix)
        else:
            return release_checkpoint.initialize_from_deeplab(
                self._model, prefix, initialize_last_layer=last_layers
            ).matched
        return list(self._named_variables)


def _remove_unfinished(folder: pathlib.Path) -> None:
    """Deletes the remains of a checkpoint whose writing was killed or filled the disk.

    TensorFlow first writes files with temporary names, which it would never read or delete again.
    """
    for pattern in (f"{_NAME}-*_temp*", f"{_NAME}-*.tempstate*", "checkpoint.tmp*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _paths_in(folder: str | os.PathLike[str]) -> list[str]:
    """Returns the paths of the checkpoints in a folder, the oldest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = (re.fullmatch(rf"{_NAME}-(\d+)\.index", name) for name in names)
    steps = sorted(int(match[1]) for match in found if match)
    return [os.path.join(folder, f"{_NAME}-{step}") for step in steps]


def _find_again(folder: pathlib.Path) -> None:
    """Writes the file `checkpoint`, TensorFlow's list of checkpoints, if there is no usable one.

    Without it, or without its timestamps, as after an edit by hand, TensorFlow finds none of them.
    """
    state, paths = tf.train.get_checkpoint_state(str(folder)), _paths_in(folder)
    if not paths or (state and state.all_model_checkpoint_timestamps):
        return
    say(f"{folder}: no usable file `checkpoint`, found {len(paths)} checkpoints without it")
    names = [os.path.basename(path) for path in paths]  # As the folder may be moved.
    times = [os.path.getmtime(f"{path}.index") for path in paths]
    tf.compat.v1.train.update_checkpoint_state(
        str(folder.absolute()), names[-1], names, all_model_checkpoint_timestamps=times
    )


@contextlib.contextmanager
def only_process(model_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other training processes out of a folder inside the block; creates it if needed.

    What a killed process left there is removed, and a lost list of checkpoints is restored.

    Raises:
      InputError: another process is training there, or the folder cannot be written to.
    """
    folder = pathlib.Path(model_dir)
    in_use = (
        f"{folder}: another process is training in this folder; wait until it ends or choose "
        "another --model_dir"
    )
    with working_folder.locked(folder, in_use, _LOCK_FILE):
        _remove_unfinished(folder)
        _find_again(folder)
        yield
