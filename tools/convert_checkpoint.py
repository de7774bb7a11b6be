"""Converts a checkpoint of the 2019 release for prediction, export and training here.

    python tools/convert_checkpoint.py --tf1_checkpoint=feelvos_davis17_trained.tar.gz \\
        --gin_file=gin_configs/models/xception_65.gin --export_dir=saved_model

writes a SavedModel for feelvos_tf.predict from the downloaded archive; for an unpacked one, give
its prefix, feelvos_davis17_trained/model.ckpt-200004. --model_dir=converted, with or instead of
--export_dir, writes converted/ckpt-200004 (the number is the release's step) with its settings, to
train from with --gin_param="InitialWeights.checkpoint = 'converted/ckpt-200004'". Optimizer slots
are not converted: training starts with fresh momentum.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from feelvos_tf import export
from feelvos_tf.core import atomic_files, cli, gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import model_loading

if TYPE_CHECKING:
    from feelvos_tf.models.feelvos import Feelvos

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_TF1_CHECKPOINT = _DEFINE.string(
    "tf1_checkpoint",
    "The release's .tar.gz, or the prefix of an unpacked one: the path without .index or .data-*.",
    required=True,
)
_GIN_FILE, _GIN_PARAM = gin_settings.define_flags(
    _FLAGS, "Settings of the model", "atrous_rates = ()"
)
_MODEL_DIR = _DEFINE.string(
    "model_dir", "Folder to write a checkpoint to; it must not contain one yet."
)
_EXPORT_DIR = _DEFINE.string("export_dir", "SavedModel to write; it must not exist yet.")
_EXPORT_GIN_FILE = _DEFINE.multi_string(
    "export_gin_file",
    "Settings of the SavedModel that override those of --gin_file; '' for none.",
    ["gin_configs/evaluation.gin"],
)
_ALLOW_MISSING = _DEFINE.boolean(
    "allow_missing", "Initialize variables missing from the checkpoint at random.", False
)
# How many names of each kind an error message shows.
_SHOWN = 3
# Errors raised on reading a truncated archive, or a file that is not one.
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error)


@contextlib.contextmanager
def unpacked(path: str) -> Iterator[str]:
    """Yields the prefix of the checkpoint in `path`, which is an archive or already a prefix.

    Only the checkpoint's files are extracted from an archive, into a temporary folder.

    Raises:
      InputError: the archive is damaged, holds a path that leads out of its folder, or does not
        hold one checkpoint.
    """
    if not os.path.isfile(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(path) as archive:
                prefix = _extract(archive, path, pathlib.Path(folder))
        except _DAMAGE as error:
            raise InputError(
                f"{path}: expected a whole .tar.gz of the release, found {error}"
            ) from error
        yield prefix


def _extract(archive: tarfile.TarFile, path: str, folder: pathlib.Path) -> str:
    """Extracts the only checkpoint of an archive to `folder`; returns its prefix."""
    names = archive.getnames()
    for name in names:
        if name.startswith("/") or ".." in name.split("/"):
            raise InputError(
                f"{path}: expected an archive of files below its own folder, found {name!r}"
            )
    prefixes = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    if len(prefixes) != 1:
        raise InputError(
            f"{path}: expected an archive with one checkpoint (a file .index with its .data-*), "
            f"found {len(prefixes)}"
        )
    for member in archive:
        if member.isfile() and member.name.startswith(f"{prefixes[0]}."):
            target = folder / os.path.basename(member.name)
            with archive.extractfile(member) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy)
    return str(folder / os.path.basename(prefixes[0]))


def load(prefix: str, allow_missing: bool) -> Feelvos:
    """Returns the configured model with the checkpoint's weights; prints what matched.

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
    _print_names("missing, initialized at random", restored.missing)
    _print_names("unused in the checkpoint", restored.unused)
    print(f"optimizer slots and step, not converted: {len(restored.ignored)}")
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
    rest = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *rest]) or "none"


def _print_names(title: str, names: list[str]) -> None:
    print(f"{title}: {len(names)}")
    for name in names:
        print(f"  {name}")


def export_converted(model_dir: str, export_dir: str) -> None:
    """Writes the SavedModel of the only checkpoint in `model_dir`."""
    gin_files = [name for name in _EXPORT_GIN_FILE.value if name]
    gin_settings.parse_model_dir(model_dir, [], gin_files)
    with gin_settings.input_errors():
        _, predictor = model_loading.build_evaluated(export.find_checkpoint(model_dir))
        export.export(predictor, export_dir)
    print(f"SavedModel: {export_dir}")


def main() -> None:
    """Converts the checkpoint given by the flags."""
    model_dir, export_dir = _MODEL_DIR.value, _EXPORT_DIR.value
    if not _GIN_FILE.value:
        raise InputError("--gin_file: expected the settings of the model, found nothing")
    if model_dir is None and export_dir is None:
        raise InputError("expected --export_dir (a SavedModel) or --model_dir (a checkpoint)")
    if export_dir is not None:
        atomic_files.check_new(export_dir)

    import tensorflow as tf

    from feelvos_tf.models import release_checkpoint

    if model_dir is not None and os.path.isdir(model_dir) and tf.train.latest_checkpoint(model_dir):
        raise InputError(f"{model_dir}: expected a folder without checkpoints, found some there")
    from feelvos_tf import configurables  # noqa: F401

    gin_settings.parse(_GIN_FILE.value, _GIN_PARAM.value)
    with unpacked(_TF1_CHECKPOINT.value) as prefix, gin_settings.input_errors():
        model = load(prefix, _ALLOW_MISSING.value)
        step = release_checkpoint.read_global_step(prefix)
    with tempfile.TemporaryDirectory() as temporary:
        path = save(model, model_dir or temporary, step)
        if model_dir is not None:
            print(f"checkpoint: {path}")
        if export_dir is not None:
            export_converted(model_dir or temporary, export_dir)


if __name__ == "__main__":
    cli.run(main)
