"""Trains a model: `python -m feelvos_tf.train --gin_file=FILE --model_dir=DIR`.

The same command again goes on from the last checkpoint in DIR. DIR receives checkpoints, the
settings that were really used (operative_config.gin), TensorBoard files (`tensorboard
--logdir=DIR`) and their numbers as a table (metrics.csv). With --dry_run nothing is written: one
step tells whether everything is there, and what the training will need.

SIGINT (Ctrl-C) and SIGTERM end the step under way and save a checkpoint; the exit code is then 130
or 143, while 0 is the end of the training and 1 bad input.
"""

from __future__ import annotations

import contextlib
import secrets
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
_DRY_RUN = flags.DEFINE_boolean(
    "dry_run",
    False,
    "Check settings, data, checkpoint and one step, and tell what the training will need; nothing "
    "is written.",
    flag_values=_FLAGS,
)

# Plus the signal's number it is what a shell expects of a process that a signal stopped.
_EXIT_STOPPED = 128


def main(argv: list[str]) -> None:
    """Trains with the settings of the flags."""
    del argv
    if not _GIN_FILE.value and not _GIN_PARAM.value:
        raise InputError("--gin_file: expected at least one, e.g. gin_configs/quickstart.gin")
    gin_settings.parse(_GIN_FILE.value, _GIN_PARAM.value)
    if _DRY_RUN.value:
        dry_run(_MODEL_DIR.value)
        return
    stopped_by = train(_MODEL_DIR.value)
    if stopped_by:
        name = signal.Signals(stopped_by).name
        print(f"stopped by {name}; the same command goes on from here", file=sys.stderr)
        sys.exit(_EXIT_STOPPED + stopped_by)


def train(model_dir: str) -> int:
    """Trains with the settings parsed before; returns the signal that stopped it, 0 if none."""
    from feelvos_tf.data import tfrecord_files
    from feelvos_tf.data.input_pipeline import training_dataset
    from feelvos_tf.models import release_checkpoint
    from feelvos_tf.models.feelvos import Feelvos
    from feelvos_tf.training import mixed_precision, run_lock
    from feelvos_tf.training.devices import Workers, distribution, joining_again
    from feelvos_tf.training.trainer import Trainer, set_random_seed
    from feelvos_tf.training.validation import evaluation_of

    with gin_settings.input_errors(), tfrecord_files.readable_errors():
        strategy = distribution()
        policy = mixed_precision.set_mixed_precision()
        seed = set_random_seed()
        training_dataset()  # Wrong settings and records are told before anything is written.
        workers = Workers(strategy)
        with joining_again(workers):
            clip_seed = workers.from_chief(secrets.randbits(31))
            with strategy.scope(), mixed_precision.layers(policy):
                model = Feelvos()
                model.create_variables()
            names = release_checkpoint.release_names(model)
            evaluate = evaluation_of(model, model_dir) if workers.is_chief else None
            only_process = run_lock.only_process if workers.is_chief else contextlib.nullcontext
            with only_process(model_dir):
                trainer = Trainer(model, names, model_dir, strategy, evaluate, seed=seed)
                trainer.train(
                    lambda step, share: training_dataset(
                        first_batch=step, share=share, otherwise_seed=clip_seed
                    )
                )
                return trainer.stopped_by


def dry_run(model_dir: str) -> None:
    """Prints what a training with the settings parsed before will need, after trying a step."""
    import gin

    from feelvos_tf.data import tfrecord_files
    from feelvos_tf.data.batch_share import BatchShare
    from feelvos_tf.data.input_pipeline import training_dataset
    from feelvos_tf.models import release_checkpoint
    from feelvos_tf.models.feelvos import Feelvos
    from feelvos_tf.training import mixed_precision
    from feelvos_tf.training import dry_run as trials
    from feelvos_tf.training.devices import distribution
    from feelvos_tf.training.trainer import Trainer, set_random_seed
    from feelvos_tf.training.validation import evaluation_of

    with gin_settings.input_errors(), tfrecord_files.readable_errors():
        strategy = distribution()
        policy = mixed_precision.set_mixed_precision()
        seed = set_random_seed()
        batch_size = training_dataset().element_spec["images"].shape[0]
        parts = gin.get_bindings("Trainer").get("gradient_accumulation_steps", 1)
        BatchShare(parts, strategy.num_replicas_in_sync).clips_per_replica(batch_size)
        with strategy.scope(), mixed_precision.layers(policy):
            model = Feelvos()
            model.create_variables()
        names = release_checkpoint.release_names(model)
        evaluate = evaluation_of(model, model_dir)
        with trials.copy_of_run(model_dir) as copy:
            trainer = Trainer(
                model,
                names,
                copy,
                strategy,
                evaluate,
                gradient_accumulation_steps=batch_size // strategy.num_replicas_in_sync,
                seed=seed,
            )
            trial = trainer.try_out(
                lambda step, share: training_dataset(first_batch=step, share=share)
            )
        for pattern in tfrecord_files.as_list(gin.get_bindings("training_dataset")["records"]):
            videos = tfrecord_files.find_videos(pattern)
            told = cli.count(len(videos.paths), "videos")
            print(f"data: {told} in {cli.count(len(set(videos.paths)), 'files')}, {pattern}")
    for line in trainer.forecast(trial, parts, batch_size):
        print(line)


if __name__ == "__main__":
    cli.run(main)
