"""Trains a model: `python -m feelvos_tf.train --gin_file=FILE --model_dir=DIR`.

The same command again goes on from the last checkpoint in DIR. DIR receives checkpoints, the
settings that were really used (operative_config.gin) and TensorBoard files
(`tensorboard --logdir=DIR`). SIGINT (Ctrl-C) and SIGTERM end the step under way and save a
checkpoint; the exit code is then 130 or 143, while 0 is the end of the training and 1 bad input.
"""

from __future__ import annotations

import signal
import sys

from absl import flags

from feelvos_tf.core import cli, gin_flags, gin_settings
from feelvos_tf.core.errors import InputError

_FLAGS = cli.flag_values(__name__)
_GIN_FILE, _GIN_PARAM = gin_flags.define(
    _FLAGS, "Settings of the training", "Trainer.num_steps = 100"
)
_MODEL_DIR = flags.DEFINE_string(
    "model_dir", None, "Folder of this run.", required=True, flag_values=_FLAGS
)

# Plus the signal's number it is what a shell expects of a process that a signal stopped.
_EXIT_STOPPED = 128


def main(argv: list[str]) -> None:
    """Trains with the settings of the flags."""
    del argv
    if not _GIN_FILE.value and not _GIN_PARAM.value:
        raise InputError("--gin_file: expected at least one, e.g. gin_configs/quickstart.gin")
    gin_settings.parse(_GIN_FILE.value, _GIN_PARAM.value)
    stopped_by = train(_MODEL_DIR.value)
    if stopped_by:
        name = signal.Signals(stopped_by).name
        print(f"stopped by {name}; the same command goes on from here", file=sys.stderr)
        sys.exit(_EXIT_STOPPED + stopped_by)


def train(model_dir: str) -> int:
    """Trains with the settings parsed before; returns the signal that stopped it, 0 if none."""
    import tensorflow as tf

    from feelvos_tf.data import tfrecord_files
    from feelvos_tf.data.input_pipeline import training_dataset
    from feelvos_tf.models import release_checkpoint
    from feelvos_tf.models.feelvos import Feelvos
    from feelvos_tf.training import run_lock
    from feelvos_tf.training.arithmetic import set_arithmetic
    from feelvos_tf.training.trainer import Trainer, set_random_seed
    from feelvos_tf.training.validation import evaluation_of

    with gin_settings.input_errors(), tfrecord_files.readable_errors():
        set_arithmetic()
        seed = set_random_seed()
        training_dataset()  # Wrong settings and records are told before anything is written.
        strategy = tf.distribute.MirroredStrategy()
        with strategy.scope():
            model = Feelvos()
            model.create_variables()
        names = release_checkpoint.release_names(model)
        evaluate = evaluation_of(model, model_dir)
        with run_lock.only_process(model_dir):
            trainer = Trainer(model, names, model_dir, strategy, evaluate, seed=seed)
            trainer.train(lambda step: training_dataset(first_batch=step))
            return trainer.stopped_by


if __name__ == "__main__":
    cli.run(main)
