"""Scores every new checkpoint of a training run as it appears.

    python -m feelvos_tf.evaluate --model_dir=DIR --dataset_root=DAVIS --year=2017 --split=val \\
        [--gin_file=gin_configs/evaluation.gin] [--gin_param="output_stride = 8"] [--once]

prints one line per checkpoint and writes J, F and J&F to DIR/eval for TensorBoard; the masks of the
last one are in DIR/eval/masks. It can run alongside training, even on another machine if DIR is
shared. A checkpoint that is replaced while another is being scored is skipped. The settings are
those of the training run; --gin_file and --gin_param override individual ones.

When to use which: this program scores the checkpoints of a run from another process. With the
settings of `Validation`, training scores a split itself and waits for the scores.
`feelvos_tf.predict` writes masks and scores nothing. `tools/eval_davis.py` scores any folder of
masks.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from feelvos_tf.core import cli, gin_settings, whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags

if TYPE_CHECKING:
    from feelvos_tf.training.validation import Validation

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_MODEL_DIR = _DEFINE.string("model_dir", "Folder of the training run.", required=True)
_DATASET = dataset_flags.define(
    _FLAGS,
    "Folder of the data set; by default the training run's.",
    otherwise="the training run's",
)
_INFERENCE_SIZE = _DEFINE.integer(
    "inference_size", "Pixels of the short side at which the model runs.", lower_bound=16
)
_GIN_FILE, _GIN_PARAM = gin_settings.define_flags(
    _FLAGS, "Settings that override the training run's", "output_stride = 8"
)
_ONCE = _DEFINE.boolean("once", "Score the latest checkpoint and stop.", False)
_TIMEOUT = _DEFINE.floating(
    "timeout", "Stop after this many seconds without a new checkpoint; by default never."
)

_STEP = "step/.ATTRIBUTES/VARIABLE_VALUE"


def main() -> None:
    """Scores the checkpoints of the run that the flags name."""
    whole_files.check_is_folder(_MODEL_DIR.value, "the folder of a training run")
    import tensorflow as tf

    timeout = 0.0 if _ONCE.value else _TIMEOUT.value
    prefixes = tf.train.checkpoints_iterator(_MODEL_DIR.value, timeout=timeout)
    first = next(prefixes, None)
    if first is None:
        raise InputError(f"{_MODEL_DIR.value}: expected a checkpoint of the trainer, found none")
    from feelvos_tf import configurables  # noqa: F401
    from feelvos_tf.training.validation import Validation

    gin_settings.parse_model_dir(_MODEL_DIR.value, _GIN_PARAM.value, _GIN_FILE.value)
    with gin_settings.input_errors():
        evaluate = evaluation_of(_MODEL_DIR.value, Validation(**_validation_settings()))
        print(evaluate(first), flush=True)
        for prefix in () if _ONCE.value else prefixes:
            print(evaluate(prefix), flush=True)


def evaluation_of(model_dir: str, validation: Validation) -> Callable[[str], str]:
    """Returns a function that scores a checkpoint of a run with the current settings.

    It takes the checkpoint's prefix, returns `ckpt-1000: J 0.6123, F 0.6345, J&F 0.6234` and writes
    the same to TensorBoard. A checkpoint that does not fit the model is an InputError.

    Args:
      model_dir: the run's folder.
      validation: what to score on.
    """
    import tensorflow as tf

    from feelvos_tf.inference.model_loading import build_evaluated
    from feelvos_tf.models.weights import load_weights
    from feelvos_tf.training.summaries import write_scalars

    folder = pathlib.Path(model_dir) / "eval"
    model, predictor = build_evaluated()
    writer = tf.summary.create_file_writer(str(folder))

    def evaluate(prefix: str) -> str:
        load_weights(model, prefix)
        reader = tf.train.load_checkpoint(prefix)
        step = int(reader.get_tensor(_STEP)) if reader.has_tensor(_STEP) else 0
        scores = validation.score(predictor, folder / "masks")
        with writer.as_default():
            write_scalars({f"eval/{name}": s for name, s in scores.items()}, step)
        writer.flush()
        values = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
        return f"{os.path.basename(prefix)}: {values}"

    return evaluate


def _validation_settings() -> dict[str, Any]:
    """Returns the data settings given as flags; the training run's apply to the rest."""
    settings = _DATASET.given()
    if "split" in settings or "dataset" in settings:
        # The training run's sequences are not those of another split.
        settings.setdefault("sequences", None)
    if "root" in settings:
        settings["dataset_root"] = settings.pop("root")
    if _INFERENCE_SIZE.value is not None:
        settings["inference_size"] = _INFERENCE_SIZE.value
    return settings


if __name__ == "__main__":
    cli.run(main)
