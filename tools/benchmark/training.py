"""Cases of `tools/benchmark train`, `step`, `input`, `eval` and `export`."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

import cv2
import gin
import numpy as np
import tensorflow as tf
from frame import BACKBONES, fused_model, image_and_mask
from frame import Sizes as FrameSizes
from measure import Case
from PIL import Image

from feelvos_tf import configurables, export  # noqa: F401
from feelvos_tf.core import gin_settings
from feelvos_tf.data import record_shards
from feelvos_tf.data.dataset_flags import Choice
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.data.input_pipeline import training_dataset
from feelvos_tf.data.paper_clips import ClipSettings
from feelvos_tf.evaluation import protocols, score_predictions
from feelvos_tf.evaluation.region_and_contour import tolerance_radius
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.media import masks
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.training.clip_forward import BATCH_KEYS, clip_logits
from feelvos_tf.training.optimizers import MomentumOptimizer
from feelvos_tf.training.train_step import TrainState, TrainStep, new_step
from feelvos_tf.training.weight_averaging import WeightAverage

# Batches of a run of `input`, and of the input of `step`.
_BATCHES, _STEP_BATCHES = 20, 10
# Predictions to score are the true masks, shifted by this many pixels.
_SHIFT = 3
# Title -> settings file, macros of its records, and settings that override some of it.
_RECIPES = {
    "bundled model, stage 2": (
        "gin_configs/train/small_model_2_rollout.gin",
        ("stills_records", "davis_2016_records"),
        (),
    ),
    "xception_65, one clip of 233x233": (
        "gin_configs/train/paper.gin",
        ("davis_2017_records", "youtube_vos_records"),
        ("ClipSettings.crop_size = (233, 233)", "training_dataset.batch_size = 1"),
    ),
}


def temporary_folder() -> pathlib.Path:
    """Returns a new folder that is removed when the process exits."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def train_cases(crop: int, objects: int) -> list[Case]:
    """Returns forward and backward passes of one clip, and the forward pass alone."""

    def step(variant: str, backward: bool = True, recompute: bool = False) -> Callable[[], object]:
        model = Feelvos(BACKBONES[variant](output_stride=16), recompute_backbone=recompute)
        model.create_variables()
        variables = [v for v in release_names(model).values() if v.trainable]
        image, mask = image_and_mask(FrameSizes(crop, crop, objects))
        images = tf.cast(tf.stack([image] * 3), tf.float32)[tf.newaxis]
        labels = tf.cast(tf.stack([mask] * 3), tf.int32)[tf.newaxis]

        @tf.function
        def run():
            with tf.GradientTape() as tape:
                clips = clip_logits(model, images, labels, tf.constant([objects]), training=True)
                loss = tf.reduce_mean(clips[0].logits ** 2)
            return tape.gradient(loss, variables) if backward else loss

        return run

    settings = {
        "forward and backward": {},
        "the same, recompute_backbone = True": {"recompute": True},
        "forward": {"backward": False},
    }
    return [
        Case(
            name,
            f"{variant}: one clip of three {crop}x{crop} frames, output stride 16",
            functools.partial(step, variant, **setting),
        )
        for variant in BACKBONES
        for name, setting in settings.items()
    ]


def _step_parts(recipe: str, records: str) -> dict[str, Callable[[], object]]:
    """Returns the parts of a training step with the recipe's settings, but in float32.

    Not every processor supports the 16-bit products of `set_mixed_precision`.
    """
    file, names, params = _RECIPES[recipe]
    gin_settings.parse([file], [f"{name} = {records!r}" for name in names] + list(params))
    settings = gin.get_bindings("Trainer")
    model = Feelvos()
    model.create_variables()
    learned = {n: v for n, v in release_names(model).items() if v.trainable}
    optimizer = settings.get("optimizer", MomentumOptimizer)(learned)
    decay = settings.get("average_decay")
    average = WeightAverage(learned, decay) if decay else None
    state = TrainState(new_step(), optimizer, average)
    step = TrainStep(model, learned, state, settings["num_steps"])
    batches = iter(training_dataset(seed=0))

    def next_batch() -> dict[str, tf.Tensor]:
        batch = next(batches)
        return {key: batch[key] for key in BATCH_KEYS}

    batch = next_batch()
    gradients = {name: tf.zeros_like(variable) for name, variable in learned.items()}
    return {
        "whole": lambda: step(next_batch(), len(batch["images"])),
        # Unused gradients are pruned from the graph.
        "forward": tf.function(lambda: step.gradients(batch)[1].scalars["loss"]),
        "forward and backward": tf.function(lambda: step.gradients(batch)[0]),
        "update": tf.function(lambda: optimizer.apply(gradients, tf.constant(0.0))),
        "input": lambda: [next(batches) for _ in range(_STEP_BATCHES)],
    }


def step_cases(videos: Sequence[VideoFiles]) -> list[Case]:
    """Returns a whole training step and its parts, for two recipes."""
    folder = temporary_folder()
    record_shards.write_shards(videos, folder, "train", num_shards=2)

    def made(recipe: str, part: str) -> Callable[[], object]:
        return _step_parts(recipe, str(folder / "train-*"))[part]

    return [
        Case(
            part,
            f"a training step: {recipe}",
            functools.partial(made, recipe, part),
            items=_STEP_BATCHES if part == "input" else 1,
        )
        for recipe in _RECIPES
        for part in ("whole", "forward", "forward and backward", "update", "input")
    ]


def input_cases(videos: Sequence[VideoFiles], crop: int) -> list[Case]:
    """Returns the training pipeline, and plain decoding of as many images."""
    folder = temporary_folder()
    record_shards.write_shards(videos, folder, "train", num_shards=2)

    def pipeline() -> Callable[[], object]:
        clips = ClipSettings(crop_size=(crop, crop))
        dataset = training_dataset(1, str(folder / "train-*"), clips, seed=0)
        batches = iter(dataset)
        return lambda: [next(batches) for _ in range(_BATCHES)]

    def decoding() -> Callable[[], object]:
        pairs = [
            (str(image), str(mask))
            for video in videos
            for image, mask in zip(video.frames, video.masks)
        ]
        pairs = (pairs * (3 * _BATCHES // len(pairs) + 1))[: 3 * _BATCHES]

        def read() -> None:
            for image, mask in pairs:
                tf.io.decode_jpeg(tf.io.read_file(image))
                np.asarray(Image.open(mask))

        return read

    group = f"input, clips of three {crop}x{crop} frames"
    return [
        Case("training_dataset", group, pipeline, items=_BATCHES),
        Case("decoding as many JPEGs and PNGs, one thread", group, decoding, items=_BATCHES),
    ]


def eval_cases(chosen: Choice) -> list[Case]:
    """Returns scoring with one and two processes, and a literal implementation of the definition.

    `pip install vos-benchmark scikit-image` adds a widely used program for the same scores.
    """
    ground_truths = protocols.dataset_ground_truths(*dataclasses.astuple(chosen))
    folder = temporary_folder()
    for ground_truth in ground_truths:
        for path in ground_truth.masks:
            moved = np.roll(masks.read_annotation(path), _SHIFT, axis=1)
            masks.write_mask(folder / ground_truth.name / path.name, moved)
    items = sum(np.count_nonzero(ground_truth.scored) for ground_truth in ground_truths)

    def ours(workers: int) -> Callable[[], object]:
        return lambda: score_predictions.score_folder(ground_truths, folder, workers=workers)

    def definition() -> Callable[[], object]:
        return lambda: [
            _direct_scores(
                masks.read_annotation(path, ground_truth.binary),
                masks.read_annotation(folder / ground_truth.name / path.name, ground_truth.binary),
                np.compress(scored, ground_truth.objects),
            )
            for ground_truth in ground_truths
            for path, scored in zip(ground_truth.masks, ground_truth.scored.T)
        ]

    def public_tool(processes: int) -> Callable[[], object]:
        from vos_benchmark.benchmark import benchmark

        # In DAVIS, all sequences are in one folder; the tool scores those that both folders hold.
        truth = str(ground_truths[0].masks[0].parents[1])
        return lambda: benchmark([truth], [str(folder)], False, processes, verbose=False)

    group = f"scoring {items} objects in frames (per s: objects in frames)"
    cases = [
        Case("ours, 1 worker", group, lambda: ours(1), items=items),
        Case("ours, 2 workers", group, lambda: ours(2), items=items),
        Case("the definition with the same libraries", group, definition, items=items),
    ]
    if importlib.util.find_spec("vos_benchmark") is not None:
        for count in (1, 2):
            make = functools.partial(public_tool, count)
            cases.append(Case(f"vos-benchmark, num_processes={count}", group, make, items=items))
    return cases


def _direct_scores(
    true_ids: np.ndarray, predicted_ids: np.ndarray, objects: Sequence[int]
) -> list[tuple[float, float]]:
    """Returns (J, F) per object, computed literally by the definition, at full size."""
    scores = []
    for object_id in objects:
        truth, predicted = true_ids == object_id, predicted_ids == object_id
        union = np.count_nonzero(truth | predicted)
        j = np.count_nonzero(truth & predicted) / union if union else 1.0
        radius = tolerance_radius(*truth.shape)
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        disk = (y**2 + x**2 <= radius**2).astype(np.uint8)
        contours = [_direct_contour(truth), _direct_contour(predicted)]
        near = [cv2.dilate(contour.astype(np.uint8), disk) > 0 for contour in contours]
        counts = [max(np.count_nonzero(contour), 1) for contour in contours]
        recall = np.count_nonzero(contours[0] & near[1]) / counts[0]
        precision = np.count_nonzero(contours[1] & near[0]) / counts[1]
        scores.append((j, 2 * precision * recall / max(precision + recall, 1e-12)))
    return scores


def _direct_contour(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask ^ right) | (mask ^ below) | (mask ^ diagonal)


_FIRST_FRAME = """
import sys, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
image = tf.zeros([{height}, {width}, 3], tf.uint8)
mask = tf.reshape(tf.range({width}) * {objects} // {width}, [1, -1])
state = model.start(image, tf.cast(tf.repeat(mask, {height}, 0), tf.uint8))
"""
_SECOND_FRAME = "model.step(image, state)\n"


def export_cases(sizes: FrameSizes) -> list[Case]:
    """Returns a fresh process up to a SavedModel's first results, and the writing of one."""

    def fresh_process(variant: str, program: str) -> Callable[[], object]:
        folder = str(temporary_folder() / variant)
        export.export(Predictor(fused_model(variant)), folder)
        command = [sys.executable, "-c", program.format(**sizes._asdict()), folder]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    def writing(variant: str) -> Callable[[], object]:
        predictor = Predictor(fused_model(variant))

        def write() -> None:
            with tempfile.TemporaryDirectory() as folder:
                export.export(predictor, str(pathlib.Path(folder) / variant))

        return write

    cases = []
    for variant in ("xception_65", "mobilenet_v2"):
        group = f"{variant}: fresh process"
        programs = {
            "load, first frame ready": _FIRST_FRAME,
            "load, first frame, second frame": _FIRST_FRAME + _SECOND_FRAME,
            "importing TensorFlow alone": "import tensorflow",
        }
        for name, program in programs.items():
            cases.append(Case(name, group, functools.partial(fresh_process, variant, program)))
        cases.append(Case("writing the SavedModel", group, functools.partial(writing, variant)))
    return cases
