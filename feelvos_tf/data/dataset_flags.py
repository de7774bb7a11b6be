"""The command-line flags that choose a data set, a split and some of its sequences.

A program defines them once and reads them after the command line has been parsed:

    _DATASET = dataset_flags.define(cli.flag_values(__name__), "Folder of the data set to segment.")
    ...
    videos = _DATASET.choice().list_sequences(require_masks="first")
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from absl import flags

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.data.tfds import prepared


@dataclasses.dataclass(frozen=True)
class Choice:
    """The part of a data set that a user chose: arguments of `datasets.list_sequences`."""

    root: str | None = None
    dataset: str = "davis_2017"
    split: str = "val"
    resolution: str = "480p"
    sequences: Sequence[str] | None = None

    def list_sequences(self, require_masks: str = "all") -> list[datasets.VideoFiles]:
        """Returns the chosen sequences, see `datasets.list_sequences`.

        Raises:
          InputError: the root was not given, or something is missing below it.
        """
        self.given_root()
        return datasets.list_sequences(*dataclasses.astuple(self), require_masks)

    def given_root(self) -> str:
        """Returns the root. Raises InputError if it was not given."""
        if self.root is None:
            raise InputError("expected --dataset_root, the folder of a data set, found none")
        return self.root


class DatasetFlags:
    """The flags of one program, from `define`."""

    def __init__(self, holders: list[flags.FlagHolder], defaults: Choice):
        self._holders = holders
        self._defaults = defaults

    def names(self) -> list[str]:
        """Returns the names of the flags."""
        return [holder.name for holder in self._holders]

    def choice(self) -> Choice:
        """Returns the choice on the command line, with the program's defaults for the rest.

        Raises:
          InputError: the flags contradict each other.
        """
        return dataclasses.replace(self._defaults, **self.given())

    def given(self) -> dict[str, Any]:
        """Returns the fields of `Choice` that the command line sets.

        Raises:
          InputError: the flags contradict each other.
        """
        given = {flag.name: flag.value for flag in self._holders if flag.value not in (None, [])}
        implied = {}
        if "dataset_root" in given:
            given["root"] = given.pop("dataset_root")
        if "year" in given:
            year = given.pop("year")
            implied[f"--year={year}"] = f"davis_{year}"
        if prepared.is_prepared(given.get("root", "")):
            pattern, split = given["root"], given.get("split", self._defaults.split)
            given.update(
                root=str(prepared.folder_of(pattern, split)), split=split, resolution="480p"
            )
            implied[f"--dataset_root={pattern}"] = "davis_2017"
        for flag, dataset in implied.items():
            if given.setdefault("dataset", dataset) != dataset:
                raise InputError(
                    f"{flag}: expected --dataset={dataset} or none, found {given['dataset']}"
                )
        return given


def define(
    flag_values: flags.FlagValues,
    root_help: str,
    split: str = "val",
    otherwise: str | None = None,
    more_datasets: Sequence[str] = (),
    title: str | None = None,
) -> DatasetFlags:
    """Defines --dataset_root, --year, --dataset, --split, --resolution and --sequences.

    Args:
      flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
      root_help: help text of --dataset_root.
      split: the default.
      otherwise: shown as every flag's default, for a program whose defaults are not `Choice`'s.
      more_datasets: further values of --dataset, whose files the program lists itself.
      title: of their group in --help; None for no group.
    """

    def default(value: str) -> str:
        return f"by default {otherwise or value}"

    kinds = [*datasets.DATASETS, *more_datasets]
    group = cli.FlagGroup(flag_values, title)
    root_help = root_help.rstrip(".")
    holders = [
        group.string(
            "dataset_root", f"{root_help}, or videos of TensorFlow Datasets: tfds:davis/480p."
        ),
        group.enum("year", f"Year of DAVIS; {default('2017')}.", enum_values=["2016", "2017"]),
        group.enum(
            "dataset", f"Kind of data set; {default('DAVIS of --year')}.", enum_values=kinds
        ),
        group.string("split", f"List of sequences; {default(split)}."),
        group.string(
            "resolution", f"Folder of DAVIS below JPEGImages and Annotations; {default('480p')}."
        ),
        group.comma_list("sequences", f"Sequences of the split, e.g. bear,boat; {default('all')}."),
    ]
    return DatasetFlags(holders, Choice(split=split))
