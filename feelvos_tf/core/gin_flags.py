"""The command-line flags --gin_file and --gin_param: one copy for all programs."""

from __future__ import annotations

from absl import flags


def define(
    flag_values: flags.FlagValues, use: str, example: str
) -> tuple[flags.FlagHolder[list[str]], flags.FlagHolder[list[str]]]:
    """Defines both flags and returns (files, single settings).

    Args:
      flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
      use: what the settings do, e.g. "Settings of the model".
      example: one setting, e.g. "Trainer.num_steps = 100".
    """
    files = flags.DEFINE_multi_string(
        "gin_file",
        [],
        f"{use}; later files win over earlier ones.",
        flag_values=flag_values,
    )
    params = flags.DEFINE_multi_string(
        "gin_param",
        [],
        f"One setting, e.g. '{example}'; wins over the files.",
        flag_values=flag_values,
    )
    return files, params
