r"""Times the fast paths against plain implementations of the same work.

    python tools/benchmark matching   global and local matching
    python tools/benchmark frame      one frame, its parts, the head
    python tools/benchmark sizes      one frame by size, number of objects and backbone
    python tools/benchmark train      one clip forward and backward
    python tools/benchmark step       a training step of two recipes, and its parts
    python tools/benchmark input      the training pipeline
    python tools/benchmark eval       scoring masks
    python tools/benchmark export     a SavedModel in a fresh process
    python tools/benchmark quality_time --output_dir=DIR   J&F over seconds per frame
    python tools/benchmark clicks     IoU and seconds of masks from simulated clicks

All lines of a group do the same work; "x ours" is the time relative to the group's first line.
Runs of a group are interleaved; times are medians. Peak memory is what a single run adds in a
process of its own. `--only=TEXT` keeps the groups with TEXT in their titles, `--json` prints JSON.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time

import measure
import sizes

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags

_TESTDATA = pathlib.Path(__file__).resolve().parents[2] / "testdata"

FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(FLAGS)
_DEFINE.integer("height", "Height of a frame in pixels.", 480, lower_bound=16)
_DEFINE.integer("width", "Width of a frame in pixels.", 854, lower_bound=16)
_DEFINE.integer("objects", "Number of objects, including the background.", 3, lower_bound=1)
_DEFINE.integer("radius", "Window radius of local matching.", 15, lower_bound=0)
_DEFINE.integer("crop", "Side of a training frame in pixels.", 465, lower_bound=65)
_DEFINE.integer("repeats", "Timed runs of each line.", 5, lower_bound=1)
_DEFINE.integer("threads", "Threads of TensorFlow; 0: one per core.", 0, lower_bound=0)
_DATASET = dataset_flags.define(
    FLAGS, "Data set for step, input, eval, clicks and quality_time; by default, the bundled one."
)
_DEFINE.string("only", "Keep the groups with this text in their titles.", "")
_DEFINE.boolean("memory", "Measure peak memory.", True)
_DEFINE.boolean(
    "processor_time",
    "Measure CPU time, summed over threads: for machines that run other programs.",
    False,
)
_DEFINE.comma_list("models", "quality_time: SavedModels, or bundled.", ["bundled"])
_DEFINE.comma_list("inference_sizes", "quality_time: pixels of the short side, e.g. 240,480.", [])
_DEFINE.string(
    "peers",
    "quality_time: CSV file of other methods' points and their sources.",
    str(pathlib.Path(__file__).with_name("peers.csv")),
)
_DEFINE.string("output_dir", "quality_time: folder for masks, points and plot.")
_DEFINE.integer("frames_per_video", "clicks: frames of each video.", 1, lower_bound=1)
_DEFINE.boolean("json", "Print JSON.", False)
_DEFINE.string("peak_of", "Print only the peak memory of this line (used internally).")

# Commands that measure cases -> the flags that affect their results.
_SIZES = {
    "matching": ("height", "width", "objects", "radius", "repeats"),
    "frame": ("height", "width", "objects", "repeats"),
    "train": ("crop", "objects", "repeats"),
    "step": (*_DATASET.names(), "repeats", "only"),
    "input": (*_DATASET.names(), "crop", "repeats"),
    "eval": (*_DATASET.names(), "repeats"),
    "export": ("height", "width", "objects", "repeats"),
}


def take_command(argv: list[str]) -> str | None:
    """Removes the subcommand, the first word unless it has dashes, from `argv`; returns it."""
    if len(argv) > 1 and not argv[1].startswith("-"):
        return argv.pop(1)
    return None


def cases_of(command: str) -> list[measure.Case]:
    """Returns the cases of a subcommand for the sizes given by flags."""
    import frame
    import matching
    import training

    image = frame.Sizes(FLAGS.height, FLAGS.width, FLAGS.objects)
    grid = (-(-FLAGS.height // 4), -(-FLAGS.width // 4))
    chosen = _chosen()
    make = {
        "matching": lambda: matching.matching_cases(
            matching.Sizes(*grid, FLAGS.objects, FLAGS.radius)
        ),
        "frame": lambda: frame.frame_cases(image),
        "train": lambda: training.train_cases(FLAGS.crop, FLAGS.objects),
        "step": lambda: training.step_cases(chosen.list_sequences()),
        "input": lambda: training.input_cases(chosen.list_sequences(), FLAGS.crop),
        "eval": lambda: training.eval_cases(chosen),
        "export": lambda: training.export_cases(image),
    }
    return [case for case in make[command]() if FLAGS.only in case.group]


def _chosen() -> dataset_flags.Choice:
    """Returns the selected data set, by default the bundled one."""
    chosen = _DATASET.choice()
    return dataclasses.replace(chosen, root=chosen.root or str(_TESTDATA))


def run(command: str | None) -> None:
    """Runs a subcommand and prints its table."""
    others = {"sizes": _run_sizes, "quality_time": _run_quality_time, "clicks": _run_clicks}
    if command not in (*_SIZES, *others):
        expected = ", ".join((*_SIZES, *others))
        raise InputError(f"expected one of {expected}, found {command or 'nothing'}")
    if command != "sizes":  # Its work is done in other processes.
        _limit_threads()
    if command in others:
        others[command]()
        return
    cases = cases_of(command)
    if not cases:
        raise InputError(f"--only={FLAGS.only}: no group of {command} has this in its title")
    if FLAGS.peak_of is not None:
        (case,) = [case for case in cases if case.title == FLAGS.peak_of]
        print(measure.peak_of(case))
        return
    peak_command = [sys.executable, __file__, command, *sys.argv[1:]]
    rows = measure.measure(
        cases,
        FLAGS.repeats,
        peak_command if FLAGS.memory and command != "export" else None,
        time.process_time if FLAGS.processor_time else time.perf_counter,
    )
    chosen = _sizes(command)
    if FLAGS.json:
        print(measure.to_json(command, chosen, rows))
        return
    print(", ".join(f"{name} {value}" for name, value in chosen.items()))
    measure.print_environment()
    print(measure.format_table(rows))


def _run_sizes() -> None:
    measure.print_environment()
    for line in sizes.table(FLAGS.repeats):
        print(line, flush=True)


def _run_quality_time() -> None:
    import quality_time

    if FLAGS.output_dir is None:
        raise InputError("expected --output_dir, the folder for masks, points and plot")
    if not all(size.isdecimal() and int(size) >= 16 for size in FLAGS.inference_sizes):
        raise InputError(f"--inference_sizes: expected pixels, found {FLAGS.inference_sizes}")
    pixels = [int(size) for size in FLAGS.inference_sizes] or [None]
    folder = pathlib.Path(FLAGS.output_dir)
    for row in quality_time.run(FLAGS.models, pixels, _chosen(), FLAGS.peers, folder):
        print(f"{row['method']}: J&F {row['J&F']}, {row['seconds']} s per frame")
    print(f"written: {folder / 'quality_time.csv'}, {folder / 'quality_time.png'}")


def _run_clicks() -> None:
    import clicks

    import feelvos_tf

    measure.print_environment()
    prompter = feelvos_tf.load().prompter()
    for line in clicks.table(prompter, _chosen().list_sequences(), FLAGS.frames_per_video):
        print(line, flush=True)


def _sizes(command: str) -> dict[str, object]:
    """Returns the flags that affect the subcommand's results, with their values."""
    values = {name: FLAGS[name].value for name in _SIZES[command]}
    if values.get("sequences"):
        values["sequences"] = ",".join(values["sequences"])
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def _limit_threads() -> None:
    import tensorflow as tf

    if FLAGS.threads:
        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
        tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)


if __name__ == "__main__":
    _command = take_command(sys.argv)
    cli.run(lambda: run(_command))
