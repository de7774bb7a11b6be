"""Trains a model: `python -m feelvos_tf.train --gin_file=FILE --model_dir=DIR`.

The same command resumes from the last checkpoint in DIR. DIR receives checkpoints, the settings
(operative_config.gin), TensorBoard files (`tensorboard --logdir=DIR`) and their values as a table
(metrics.csv). With --dry_run nothing is written: one step shows whether everything works and what
the training run will need.

SIGINT (Ctrl-C) and SIGTERM stop training after the current step, with a checkpoint; the exit code
is then 130 or 143. It is 0 when training is complete and 1 for bad input.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from feelvos_tf.core import cli, gin_settings
from feelvos_tf.core.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

    from feelvos_tf.training.trainer import Trainer

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_GIN_FILE, _GIN_PARAM = gin_settings.define_flags(
    _FLAGS, "Training settings", "Trainer.num_steps = 100"
)
_MODEL_DIR = _DEFINE.string("model_dir", "Folder of this run.", required=True)
_DRY_RUN = _DEFINE.boolean(
    "dry_run",
    "Check settings, data, checkpoint and one step, and print what the training run will need; "
    "nothing is written.",
    False,
)

# By convention, a process stopped by a signal exits with this plus the signal's number.
_EXIT_STOPPED = 128


def main() -> None:
    """Trains with the settings of the flags."""
    if not _GIN_FILE.value and not _GIN_PARAM.value:
        raise InputError("--gin_file: expected at least one, e.g. gin_configs/quickstart.gin")
    files = [gin_settings.find(name) for name in _GIN_FILE.value]  # Before slow imports.
    from feelvos_tf import configurables  # noqa: F401

    gin_settings.parse(files, _GIN_PARAM.value)
    stopped_by = train(_MODEL_DIR.value, _DRY_RUN.value)
    if stopped_by:
        name = signal.Signals(stopped_by).name
        print(f"stopped by {name}; the same command resumes from here", file=sys.stderr)
        sys.exit(_EXIT_STOPPED + stopped_by)


def train(model_dir: str, is_dry_run: bool = False) -> int:
    """Trains with the parsed settings; returns the signal that stopped it, 0 if none.

    Args:
      model_dir: folder of the run.
      is_dry_run: try a step, print what the training run will need, and write nothing.
    """
    from feelvos_tf.data.input_pipeline import WHOLE, training_dataset
    from feelvos_tf.models.feelvos import Feelvos
    from feelvos_tf.models.release_checkpoint import release_names
    from feelvos_tf.training import mixed_precision
    from feelvos_tf.training.checkpoints import only_process
    from feelvos_tf.training.devices import Workers, distribution, joining_again
    from feelvos_tf.training.trainer import Trainer, set_random_seed
    from feelvos_tf.training.validation import evaluation_of

    with gin_settings.input_errors():
        strategy = distribution()
        policy = mixed_precision.set_mixed_precision()
        seed = set_random_seed()
        workers = Workers(strategy)
        with joining_again(workers, model_dir):
            clip_seed = workers.from_chief(secrets.randbits(31))

            @functools.cache
            def batches_from(step, share):
                return training_dataset(first_batch=step, share=share, otherwise_seed=clip_seed)

            # Wrong settings and records are reported before anything is written.
            batches_from(0, WHOLE)
            with strategy.scope(), mixed_precision.layers(policy):
                model = Feelvos()
                model.create_variables()
            evaluate = evaluation_of(model, model_dir) if workers.is_chief else None
            make_trainer = functools.partial(
                Trainer,
                model,
                release_names(model),
                strategy=strategy,
                evaluate=evaluate,
                seed=seed,
            )
            if is_dry_run:
                _dry_run(make_trainer, model_dir, batches_from, strategy.num_replicas_in_sync)
                return 0
            with only_process(model_dir) if workers.is_chief else contextlib.nullcontext():
                return make_trainer(model_dir).train(batches_from)


def _dry_run(
    make_trainer: Callable[..., Trainer],
    model_dir: str,
    batches_from: Callable[..., tf.data.Dataset],
    replicas: int,
) -> None:
    """Prints what a training run will need, after trying a step with one clip per replica."""
    import gin

    from feelvos_tf.data import tfrecords
    from feelvos_tf.data.input_pipeline import WHOLE, BatchShare

    batch_size = batches_from(0, WHOLE).element_spec["images"].shape[0]
    parts = gin.get_bindings("Trainer").get("gradient_accumulation_steps", 1)
    BatchShare(parts, replicas).clips_per_replica(batch_size)
    trainer = make_trainer(model_dir, gradient_accumulation_steps=batch_size // replicas)
    trial = trainer.try_out(batches_from)
    for pattern in tfrecords.as_list(gin.get_bindings("training_dataset")["records"]):
        videos = tfrecords.find_videos(pattern)
        files = cli.count(len({path for path, _ in videos}), "files")
        print(f"data: {cli.count(len(videos), 'videos')} in {files}, {pattern}")
    for line in trainer.forecast(trial, parts, batch_size):
        print(line)


if __name__ == "__main__":
    cli.run(main)
