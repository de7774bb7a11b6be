"""Checks and measures this project on a GPU: `bash tools/gpu_check.sh`.

    device      TensorFlow sees a GPU
    golden      the release's features, distance maps, logits and labels, in float32 and in TF32
    quality     the bundled model's J&F, compared with this machine's CPU
    exchange    a SavedModel written with the GPU runs on the CPU, and vice versa
    frames      seconds and memory of a frame: backbones, 480p and 1080p, 1, 3 and 10 objects
    training    a step of the paper's network at 465x465 with 1 to 6 clips, in 32 and 16 bits
    xla         a frame and a backbone with XLA and without
    mirrored    MirroredStrategy on one GPU gives the loss of a single device

Every part is a separate process, which may fail or be stopped without affecting the others: the
table has the parts that there was time for.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import measure
import numpy as np

from feelvos_tf.core import atomic_files, cli
from feelvos_tf.data import datasets

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TESTDATA = _ROOT / "testdata"
_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_OUTPUT_DIR = _DEFINE.string("output_dir", "Folder for the table and JSON.", "gpu_check")
_SECONDS = _DEFINE.integer("seconds", "Total time limit.", 480, lower_bound=1)
_SHORT = _DEFINE.boolean("short", "Do less of each part.", False)
_ONLY = _DEFINE.comma_list("only", "Names of the parts to run.", [])
_PART = _DEFINE.string("part", "Run one part (used internally).")
_FOLDER = _DEFINE.string("folder", "Folder of a model (used internally).", "")

_LEAST_SECONDS = 5
# Measurements that may be cut short to leave time for the other parts: building the graph of a
# training step takes longer than running it.
_MOST_SECONDS = {"training_float32": 90, "training_mixed_float16": 90}
# Largest difference of a golden array, relative to its largest value, and share of different
# labels. On CPUs, 3e-4 and 0.001 (forward_golden_test.py); TF32 keeps 10 bits of each factor.
_GOLDEN_LIMITS = {"float32": (1e-3, 1e-3), "tf32": (5e-2, 1e-2)}
# Kind of array -> name and distance of pixels of the golden arrays.
_GOLDEN_ARRAYS = {
    "decoder features": ("decoder_features_sub", 4),
    "embeddings": ("embeddings_sub", 4),
    "global distance maps": ("global_map", 1),
    "local distance maps": ("local_map", 1),
    "logits": ("logits", 1),
}
_STOPPED = "stopped after"
_SAME_IDS = 0.005  # Largest share of pixels that may differ due to rounding alone.


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. A value may be text, such as the reason why there is no number.

    Text is outside of every limit. `passed` is None if there is no limit.
    """

    what: str
    value: float | str
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    part: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the value is within its limits."""
        if self.at_most is None and self.at_least is None:
            return None
        if isinstance(self.value, str):
            return False
        enough = self.at_least is None or self.value >= self.at_least
        return enough and (self.at_most is None or self.value <= self.at_most)


def main() -> None:
    """Runs all parts in processes of their own, or a single one in this process."""
    if _PART.value is not None:
        for row in PARTS[_PART.value]():
            print(json.dumps(dataclasses.asdict(row)), flush=True)
        return
    names = _ONLY.value or _OF_GPU
    datasets.check_names("--only", names, _OF_GPU)
    rows = run_all(names)
    print(table(rows))
    if any(row.passed is False for row in rows):
        sys.exit(1)


def run_all(names: list[str]) -> list[Row]:
    """Runs parts and writes the table after each; returns the rows."""
    end = time.monotonic() + _SECONDS.value
    rows: list[Row] = []
    for name in names:
        begin = time.monotonic()
        print(f"== {name} ({end - begin:.0f} s left)", flush=True)
        if end - begin < _LEAST_SECONDS:
            rows.append(Row("the part", "no time was left", at_least=0, part=name))
        else:
            most = _SECONDS.value if _SHORT.value else _MOST_SECONDS.get(name, _SECONDS.value)
            rows += run_part(name, min(most, end - begin))
            rows.append(Row("the part", time.monotonic() - begin, "s", part=name))
        _write(rows)
    return rows


def run_part(
    name: str, seconds: float = _SECONDS.default, on_cpu: bool = False, folder: str = ""
) -> list[Row]:
    """Runs a part in a process of its own; returns its rows.

    Args:
      name: one of `PARTS`.
      seconds: time limit, after which it is stopped.
      on_cpu: whether to hide the GPU from it.
      folder: of the model, for `write_model` and `read_model`.
    """
    environment = {**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    if on_cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, __file__, f"--part={name}", f"--folder={folder}"]
    command += ["--short"] if _SHORT.value else []
    output, reason = _finished(command, environment, seconds)
    lines = [line for line in output.splitlines() if line.startswith("{") and line.endswith("}")]
    rows = [Row(**{**json.loads(line), "part": name}) for line in lines]
    if reason is not None:
        # A measurement that ran out of time has not failed.
        may_stop = name in _MOST_SECONDS and reason.startswith(_STOPPED)
        rows.append(Row("all of it", reason, at_least=None if may_stop else 0, part=name))
    return rows


def _finished(
    command: list[str], environment: dict[str, str], seconds: float
) -> tuple[str, str | None]:
    """Runs a part; returns what it printed, and why it failed, or None if it did not."""
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # In its own session, a part is stopped together with its child processes.
        start_new_session=_PART.value is None,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        errors = None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL) if _PART.value is None else process.kill()
    if errors is None:
        return process.communicate()[0], f"{_STOPPED} {seconds:.0f} s"
    last = (errors.strip().splitlines() or ["no message"])[-1]
    return output, f"exit code {process.returncode}: {last[:200]}" if process.returncode else None


def _write(rows: list[Row]) -> None:
    """Writes the table and the JSON, each atomically."""
    folder = pathlib.Path(_OUTPUT_DIR.value)
    found = {"environment": measure.environment(), "short": _SHORT.value}
    found["rows"] = [{**dataclasses.asdict(row), "passed": row.passed} for row in rows]
    atomic_files.write_text(folder / "gpu_check.json", json.dumps(found, indent=2) + "\n")
    atomic_files.write_text(folder / "gpu_check.md", table(rows))


def table(rows: list[Row]) -> str:
    """Returns the rows in Markdown."""
    lines = ["| part | what | found | limit | |", "|---|---|---|---|---|"]
    for row in rows:
        value = row.value if isinstance(row.value, str) else f"{row.value:.4g}"
        limits = [f"at most {row.at_most:g}"] if row.at_most is not None else []
        limits += [f"at least {row.at_least:g}"] if row.at_least is not None else []
        verdict = {None: "", True: "passed", False: "**failed**"}[row.passed]
        cells = (row.part, row.what, f"{value} {row.unit}".strip(), ", ".join(limits), verdict)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def device() -> Iterator[Row]:
    """Yields the devices that TensorFlow sees."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    yield Row("GPUs", len(found), at_least=1)
    for each in found:
        details = tf.config.experimental.get_device_details(each)
        yield Row(each.name, " ".join(map(str, details.values())))
    build = tf.sysconfig.get_build_info()
    for name in ("cuda_version", "cudnn_version"):
        yield Row(name, str(build.get(name, "none")))


def golden() -> Iterator[Row]:
    """Yields the differences from the release's golden arrays, by kind of array."""
    import tensorflow as tf
    import versions

    from feelvos_tf.inference.predictor import Predictor
    from feelvos_tf.testing.golden import rule_model

    clip = np.load(_TESTDATA / "golden/forward_clip.npz")
    for variant in ("mobilenet_v2", *([] if _SHORT.value else ["xception_65"])):
        numbers = dict(np.load(_TESTDATA / f"golden/forward_{variant}.npz"))
        predictor = Predictor(rule_model(variant, 8))
        for precision, (at_most, wrong_at_most) in _GOLDEN_LIMITS.items():
            tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
            maps = versions.maps(variant)
            for kind, (name, step) in _GOLDEN_ARRAYS.items():
                worst = max(
                    versions.difference(kind, numbers[f"frame{i}_{name}"], found[::step, ::step])
                    for i, found in enumerate(maps[kind][-3:], start=1)
                )
                what = f"{variant}, {precision}: {kind}, largest difference"
                yield Row(what, worst, at_most=at_most)
            state, wrong = predictor.start(clip["images"][0], clip["labels"][0]), 0.0
            for frame in (1, 2, 3):
                ids, _, state = predictor.step(clip["images"][frame], state)
                wrong = max(wrong, float((ids.numpy() != numbers["scan_labels"][frame]).mean()))
            yield Row(f"{variant}, {precision}: different labels", wrong, at_most=wrong_at_most)


def score() -> Iterator[Row]:
    """Yields the bundled model's J&F on a drawn video."""
    import quality_time

    from feelvos_tf.data.dataset_flags import Choice
    from feelvos_tf.inference import model_loading

    model = model_loading.choose(None, 96 if _SHORT.value else None)
    with tempfile.TemporaryDirectory() as folder:
        scores, _ = quality_time.measured(
            model, Choice(str(_TESTDATA), sequences=["koi-pond"]), pathlib.Path(folder)
        )
    yield Row("J&F", 100 * scores.summary.j_and_f, "%")


def quality() -> Iterator[Row]:
    """Yields the score on this device, and its difference from the CPU's."""
    (here,) = score()
    yield here
    cpu = run_part("score", on_cpu=True)
    yield dataclasses.replace(cpu[-1], what="J&F on the CPU")
    if not isinstance(cpu[-1].value, str):
        yield Row("difference", abs(here.value - cpu[-1].value), "points", at_most=1)


def write_model() -> Iterator[Row]:
    """Writes a SavedModel and its masks of three frames to --folder."""
    import tensorflow as tf

    from feelvos_tf.inference import model_loading

    folder = pathlib.Path(_FOLDER.value)
    predictor = model_loading.build_bundled()
    tf.saved_model.save(predictor, str(folder / "model"))
    np.savez(folder / "masks.npz", ids=_masks(predictor), place=_place())
    yield Row("written", str(folder))


def read_model() -> Iterator[Row]:
    """Yields how much the masks of the SavedModel in --folder differ here from those there."""
    from feelvos_tf.inference import model_loading

    folder = pathlib.Path(_FOLDER.value)
    written = np.load(folder / "masks.npz")
    wrong = (_masks(model_loading.load_saved_model(folder / "model")) != written["ids"]).mean()
    what = f"written on {written['place']}, run on {_place()}: different labels"
    yield Row(what, wrong, at_most=_SAME_IDS)


def exchange() -> Iterator[Row]:
    """Yields the checks of each device's SavedModel on the other device."""
    with tempfile.TemporaryDirectory() as folder:
        for name, on_cpu, written_on in (
            ("write_model", True, "cpu"),
            ("write_model", False, "gpu"),
            ("read_model", True, "gpu"),
            ("read_model", False, "cpu"),
        ):
            rows = run_part(name, on_cpu=on_cpu, folder=f"{folder}/{written_on}")
            yield from (row for row in rows if row.passed is not None)


def _place() -> str:
    """Returns the kind of device TensorFlow computes on: gpu or cpu."""
    import tensorflow as tf

    return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"


def _masks(model) -> np.ndarray:
    """Returns the ids of three drawn frames, uint8 [3, height, width]."""
    from feelvos_tf.inference.video_predictor import VideoPredictor
    from feelvos_tf.media import masks, video

    images = list(video.open_frames(_TESTDATA / "JPEGImages/480p/koi-pond"))[:4]
    first = masks.read_annotation(_TESTDATA / "Annotations/480p/koi-pond/00000.png")
    return VideoPredictor(model).segment_clip(images, first)[1:]


def frames(backbone: str) -> Iterator[Row]:
    """Yields seconds and peak memory of a frame, by size and number of objects."""
    from frame import Sizes, image_and_mask, predictor_of

    predictor = predictor_of(backbone)
    sizes, counts = ((480, 854), (1080, 1920)), (1, 3, 10)
    if _SHORT.value:
        sizes, counts = ((96, 160),), (1, 3)
    for height, width in sizes:
        for objects in counts:
            image, mask = image_and_mask(Sizes(height, width, objects + 1))
            state = predictor.start(image, mask)
            step = functools.partial(predictor.step, image, state)
            yield from _timed(f"{height}x{width}, {objects} objects", step)


def _timed(what: str, function: Callable[[], object]) -> Iterator[Row]:
    """Yields median seconds and peak memory of a call, or that it ran out of memory."""
    import tensorflow as tf

    from feelvos_tf.training.dry_run import MemoryWatch

    memory = MemoryWatch()

    def run() -> None:
        tf.nest.flatten(function())[0].numpy()  # Waits for the result.

    try:
        run()  # Builds graphs, chooses kernels.
        memory.reset()
        times = []
        for _ in range(1 if _SHORT.value else 10):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
    except tf.errors.ResourceExhaustedError:
        yield Row(what, "out of memory")
        return
    yield Row(what, statistics.median(times), "s")
    yield Row(f"{what}: peak", memory.peak() / 2**20, "MB")


def training(policy: str) -> Iterator[Row]:
    """Yields seconds and peak memory of a training step, by number of clips."""
    import tensorflow as tf
    from frame import BACKBONES, Sizes, image_and_mask

    from feelvos_tf.models.feelvos import Feelvos
    from feelvos_tf.models.release_checkpoint import release_names
    from feelvos_tf.training import mixed_precision
    from feelvos_tf.training.optimizers import MomentumOptimizer
    from feelvos_tf.training.train_step import TrainState, TrainStep, new_step

    side, counts = (65, (1,)) if _SHORT.value else (465, (1, 6, 3, 2, 4, 5))
    with mixed_precision.layers(policy):
        variant = "mobilenet_v2" if _SHORT.value else "xception_65"
        model = Feelvos(BACKBONES[variant](output_stride=16))
        model.create_variables()
    learned = {name: v for name, v in release_names(model).items() if v.trainable}
    scale = mixed_precision.LossScale() if policy == "mixed_float16" else None
    state = TrainState(new_step(), MomentumOptimizer(learned), loss_scale=scale)
    step = TrainStep(model, learned, state, 200_000)
    image, mask = image_and_mask(Sizes(side, side, 3))
    for clips in counts:
        batch = {
            "images": tf.cast(tf.tile(image[None, None], [clips, 3, 1, 1, 1]), tf.float32),
            "labels": tf.cast(tf.tile(mask[None, None], [clips, 3, 1, 1]), tf.int32),
            "num_objects": tf.fill([clips], 3),
        }
        run = functools.partial(step, batch, clips)
        yield from _timed(f"{clips} clips of {side}x{side}", run)


def xla() -> Iterator[Row]:
    """Yields times with and without XLA, and whether the masks agree."""
    import tensorflow as tf
    from frame import Sizes, fused_model, image_and_mask

    from feelvos_tf.inference import model_loading

    size = Sizes(96, 160, 2) if _SHORT.value else Sizes(480, 854, 2)
    image, mask = image_and_mask(size)
    ids = {}
    for setting in ("autoclustering", False):
        tf.config.optimizer.set_jit(setting)
        predictor = model_loading.build_bundled()
        step = functools.partial(predictor.step, image, predictor.start(image, mask))
        ids[setting] = step()[0].numpy()
        yield from _timed(f"a frame, {setting or 'without XLA'}", step)
    wrong = float(np.mean(ids[False] != ids["autoclustering"]))
    yield Row("a frame: different labels with XLA", wrong, at_most=_SAME_IDS)
    variant = "mobilenet_v2" if _SHORT.value else "xception_65"
    model = fused_model(variant)
    batch = tf.cast(image[tf.newaxis], tf.float32)

    def features(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(model.extract(images).embeddings)

    for compiled in (False, True):
        run = functools.partial(tf.function(features, jit_compile=compiled), batch)
        yield from _timed(f"{variant}, features, jit_compile={compiled}", run)


def mirrored() -> Iterator[Row]:
    """Yields the losses of a short training run with MirroredStrategy and on one device."""
    from feelvos_tf.data import record_shards

    losses = {}
    with tempfile.TemporaryDirectory() as folder:
        videos = datasets.list_sequences(_TESTDATA, split="train")
        record_shards.write_shards(videos, pathlib.Path(folder), "train", 1)
        for strategy in ("one_device", "mirrored"):
            command = [
                *(sys.executable, "-m", "feelvos_tf.train", f"--model_dir={folder}/{strategy}"),
                "--gin_file=gin_configs/quickstart.gin",
                f"--gin_param=training_dataset.records = '{folder}/train-*'",
                "--gin_param=Trainer.num_steps = 3",
                "--gin_param=InitialWeights.calibration_clips = 0",
                "--gin_param=Intervals.log_every_steps = 1",
                f"--gin_param=distribution.strategy = '{strategy}'",
            ]
            if subprocess.run(command, stdout=subprocess.DEVNULL, cwd=_ROOT).returncode:
                sys.exit(1)  # The last line of stderr is its message, which becomes a row.
            with open(f"{folder}/{strategy}/metrics.csv", newline="") as file:
                losses[strategy] = float(list(csv.DictReader(file))[-1]["loss"])
            yield Row(f"loss after 3 steps, {strategy}", losses[strategy])
    relative = abs(losses["mirrored"] / losses["one_device"] - 1)
    yield Row("relative difference of the losses", relative, at_most=0.01)


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "device": device,
    "golden": golden,
    "frames_mobilenet_v2": lambda: frames("mobilenet_v2"),
    "frames_xception_65": lambda: frames("xception_65"),
    "quality": quality,
    "exchange": exchange,
    "training_float32": lambda: training("float32"),
    "training_mixed_float16": lambda: training("mixed_float16"),
    "mirrored": mirrored,
    "xla": xla,
    # Started by other parts.
    "score": score,
    "write_model": write_model,
    "read_model": read_model,
}
_OF_GPU = [name for name in PARTS if name not in ("score", "write_model", "read_model")]


if __name__ == "__main__":
    cli.run(main)
