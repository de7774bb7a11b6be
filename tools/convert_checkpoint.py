"""Turns a checkpoint of the 2019 release into one that predicts, exports and trains here.

    python tools/convert_checkpoint.py --tf1_checkpoint=feelvos_davis17_trained/model.ckpt-200004 \\
        --gin_file=gin_configs/models/xception_65.gin --model_dir=converted

writes converted/ckpt-200004 (the number is the release's step) and the settings beside it. Then:

    python -m feelvos_tf.export --model_dir=converted --export_dir=saved_model \\
        --gin_param="output_stride = 8" --gin_param="atrous_rates = (12, 24, 36)"

or train from it with --gin_param="Trainer.init_checkpoint = 'converted/ckpt-200004'". Optimizer
slots are left behind: training begins with fresh momentum.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from absl import flags

from feelvos_tf.core import cli, gin_flags, gin_settings
from feelvos_tf.core.errors import InputError

if TYPE_CHECKING:
    from feelvos_tf.models.feelvos import Feelvos

_FLAGS = cli.flag_values(__name__)
_TF1_CHECKPOINT = flags.DEFINE_string(
    "tf1_checkpoint",
    None,
    "Prefix: the path without .index or .data-*.",
    required=True,
    flag_values=_FLAGS,
)
_GIN_FILE, _GIN_PARAM = gin_flags.define(_FLAGS, "Settings of the model", "atrous_rates = ()")
_MODEL_DIR = flags.DEFINE_string(
    "model_dir",
    None,
    "Folder to write; must not hold a checkpoint yet.",
    required=True,
    flag_values=_FLAGS,
)
_ALLOW_MISSING = flags.DEFINE_boolean(
    "allow_missing",
    False,
    "Variables that the checkpoint lacks start at random.",
    flag_values=_FLAGS,
)
# Names of one kind that an error message shows.
_SHOWN = 3


def load(prefix: str, allow_missing: bool) -> Feelvos:
    """Returns the configured model with the checkpoint's weights, and prints what matched.

    Raises:
      InputError: the checkpoint cannot be read, a shape differs or a variable is missing.
    """
    from feelvos_tf.models import release_checkpoint
    from feelvos_tf.models.feelvos import Feelvos

    release_checkpoint.read_shapes(prefix)
    model = Feelvos()
    model.create_variables()
    restored = release_checkpoint.restore(model, prefix)
    total = len(restored.matched) + len(restored.missing)
    if not restored.matched or (restored.missing and not allow_missing):
        raise InputError(
            f"{prefix}: expected all {total} variables of the model, found {len(restored.matched)}"
            f"; missing: {_some(restored.missing)}; in the checkpoint only: "
            f"{_some(restored.unused)} (--allow_missing starts missing ones at random)"
        )
    print(f"matched: {len(restored.matched)} of the model's {total} variables")
    _print_names("missing, left at random", restored.missing)
    _print_names("left over in the checkpoint", restored.unused)
    print(f"optimizer slots and step left behind: {len(restored.ignored)}")
    return model


def save(model: Feelvos, model_dir: str, step: int) -> str:
    """Writes the weights and the step as the trainer does; returns the checkpoint's path."""
    import tensorflow as tf

    from feelvos_tf.models.release_checkpoint import release_names
    from feelvos_tf.models.weights import checkpoint_of

    checkpoint = checkpoint_of(release_names(model), step=tf.Variable(step, dtype=tf.int64))
    manager = tf.train.CheckpointManager(
        checkpoint, model_dir, max_to_keep=None, checkpoint_name="ckpt"
    )
    gin_settings.save_operative(model_dir)
    return manager.save(checkpoint_number=step)


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _print_names(title: str, names: list[str]) -> None:
    print(f"{title}: {len(names)}")
    for name in names:
        print(f"  {name}")


def main(argv: list[str]) -> None:
    """Converts the checkpoint that the flags name."""
    del argv
    import tensorflow as tf

    from feelvos_tf.models import release_checkpoint

    if not _GIN_FILE.value:
        raise InputError("--gin_file: expected the settings of the model, got nothing")
    prefix, model_dir = _TF1_CHECKPOINT.value, _MODEL_DIR.value
    if os.path.isdir(model_dir) and tf.train.latest_checkpoint(model_dir):
        raise InputError(f"{model_dir}: expected a folder without checkpoints, found some there")
    gin_settings.parse(_GIN_FILE.value, _GIN_PARAM.value)
    with gin_settings.input_errors():
        model = load(prefix, _ALLOW_MISSING.value)
    path = save(model, model_dir, release_checkpoint.read_global_step(prefix))
    print(f"checkpoint: {path}")


if __name__ == "__main__":
    cli.run(main)
