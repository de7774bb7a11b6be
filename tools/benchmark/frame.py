"""Cases of `tools/benchmark frame`: one frame of a video, and where the time goes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from matching import HAS_ADDONS, correlation_local, release_global
from measure import Case

from feelvos_tf.core.resizing import resize_bilinear
from feelvos_tf.inference import model_loading, window
from feelvos_tf.inference import state as video_state
from feelvos_tf.inference.predictor import Predictor, State
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.dynamic_segmentation_head import SegmentationHead
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.global_matching import normalize_distance, owners

BACKBONES = {"xception_65": Xception, "mobilenet_v2": MobileNetV2}
_ATROUS_RATES = (12, 24, 36)
_OBJECT_COUNTS = (1, 3, 10, 20)
# Number of xception_65's blocks up to the end of the entry flow and of the middle flow.
_ENTRY_BLOCKS, _MIDDLE_BLOCKS = 3, 19


class Sizes(NamedTuple):
    """Size of the image in pixels; number of objects, including the background."""

    height: int
    width: int
    objects: int


def frame_cases(sizes: Sizes) -> list[Case]:
    """Returns the cases; ours first in each group."""
    small = sizes._replace(height=sizes.height // 2, width=sizes.width // 2)
    cases = _bundled_cases(sizes)
    for variant in BACKBONES:
        group = f"{variant}: whole frame (peak: of the whole process)"
        functions = {"ours": functools.partial(_step, variant, sizes)}
        if HAS_ADDONS:
            functions["stand-in for the release"] = functools.partial(_release_step, variant, sizes)
        functions[f"ours at {small.height}x{small.width}"] = functools.partial(
            _step, variant, small
        )
        cases += [Case(name, group, make, whole_process=True) for name, make in functions.items()]
    cases += _part_cases("xception_65", sizes)
    return cases + _head_cases(sizes)


def fused_model(variant: str) -> Feelvos:
    """Returns a model in the form that is exported, with random weights."""
    model = Feelvos(BACKBONES[variant](), atrous_rates=_ATROUS_RATES)
    model.create_variables()
    model.fuse_batch_norm()
    return model


def predictor_of(backbone: str) -> Predictor:
    """Returns the bundled predictor for mobilenet_v2, otherwise one with random weights."""
    if backbone == "mobilenet_v2":
        return model_loading.build_bundled()
    return Predictor(fused_model(backbone))


def image_and_mask(sizes: Sizes) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a random uint8 image and a mask of vertical stripes, one per object."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (sizes.height, sizes.width, 3), np.uint8)
    stripes = np.arange(sizes.width) * sizes.objects // sizes.width
    mask = np.broadcast_to(stripes.astype(np.uint8), image.shape[:2])
    return tf.constant(image), tf.constant(mask)


def _bundled_cases(sizes: Sizes) -> list[Case]:
    """Returns one frame of the bundled model: whole, in its window, and with --fast."""
    frame = (sizes.height, sizes.width)
    whole_size, share = model_loading.bundled_inference_size(), model_loading.bundled_window()
    fast_size, fast_share = model_loading.FAST_INFERENCE_SIZE, model_loading.FAST_WINDOW
    load = functools.cache(model_loading.build_bundled)
    cases = []
    for part in (20, 5):
        # An object in the middle, with the frame's aspect ratio.
        scale = part**-0.5
        center, half = np.array(frame) / 2, np.array(frame) / 2 * scale
        box = np.stack([center - half, center + half], 1).reshape(1, 4)
        views = {
            f"whole frames at {whole_size}": window.whole(frame, whole_size),
            f"window of {share:g} (default)": window.around(box, frame, whole_size, share),
            f"whole frames at {fast_size}": window.whole(frame, fast_size),
            f"window of {fast_share:g} at {fast_size} (--fast)": window.around(
                box, frame, fast_size, fast_share
            ),
        }
        group = f"bundled model, one object of 1/{part} of the frame"
        for name, view in views.items():
            cases.append(Case(name, group, functools.partial(_bundled_step, load, view, box[0])))
            if part == 20:
                parts = functools.partial(_bundled_features, load, view)
                cases.append(Case(f"features alone: {name}", group, parts))
    return cases


def _bundled_step(
    load: Callable[[], Predictor], view: window.Window, box: np.ndarray
) -> Callable[[], object]:
    image = np.random.default_rng(0).integers(0, 256, (*view.frame_size, 3), np.uint8)
    mask = np.zeros(view.frame_size, np.uint8)
    top, bottom, left, right = box.astype(int)
    mask[top:bottom, left:right] = 1
    state = load().start(view.image(image), view.mask(mask))
    return lambda: load().step(view.image(image), state)


def _bundled_features(load: Callable[[], Predictor], view: window.Window) -> Callable[[], object]:
    image = np.zeros((*view.frame_size, 3), np.uint8)
    return lambda: load().features(view.image(image))


def _step(variant: str, sizes: Sizes) -> Callable[[], object]:
    predictor = Predictor(fused_model(variant))
    image, mask = image_and_mask(sizes)
    return functools.partial(predictor.step, image, predictor.start(image, mask))


def _release_step(variant: str, sizes: Sizes) -> Callable[[], object]:
    model = fused_model(variant)
    for block in model.backbone.blocks:
        # Each of the block's dilated layers then does its own space-to-batch.
        block.atrous_rate = 1
    image, mask = image_and_mask(sizes)
    predictor = Predictor(model)  # A variable, since its functions do not keep it alive.
    state = predictor.start(image, mask)
    function = functools.partial(_release_frame, model, objects=sizes.objects)
    return functools.partial(tf.function(function), image, state)


def _release_frame(model: Feelvos, image: tf.Tensor, state: State, objects: int):
    """Returns ids and probabilities by the 2019 release's formulas, with our backbone's layers."""
    features = model.extract(image[tf.newaxis])
    reference, previous, _ = video_state.from_flat(state, 1).scales[0]
    size = previous.indices.shape
    embeddings = tf.ensure_shape(features.embeddings[0], [*size, model.embedding_dimension])
    flat = tf.reshape(embeddings, [-1, embeddings.shape[-1]])
    far = release_global(flat, reference.embeddings, owners(reference), objects)
    near = correlation_local(
        embeddings, previous.embeddings, previous.indices, objects, model.window_radius
    )
    maps = normalize_distance(tf.reshape(far, [objects, *size])), normalize_distance(near)
    cues = tf.stack([maps[0], previous.masks, maps[1]], -1)
    logits = _joined_head(model.head, features.decoder_features, cues)
    logits = resize_bilinear(tf.transpose(logits, [3, 1, 2, 0]), image.shape[:2])[0]
    return tf.argmax(logits, -1), tf.nn.softmax(logits)


def _joined_head(head: SegmentationHead, features: tf.Tensor, cues: tf.Tensor) -> tf.Tensor:
    """Returns the head's logits with the features repeated for every object."""
    repeated = tf.repeat(features, cues.shape[0], 0)
    x = tf.concat([repeated, cues], -1)
    for convolution in head.convolutions:
        x = convolution(x)
    return head.logits(x)


def _part_cases(variant: str, sizes: Sizes) -> list[Case]:
    """Returns the parts of a frame, whose ratios are their shares of the whole.

    Each part of the backbone is measured from the image to the part's end.
    """
    group = f"{variant}: parts of a frame"

    def backbone(to_block: int | None, with_aspp: bool = False) -> Callable[[], object]:
        model = fused_model(variant)
        model.backbone.blocks = model.backbone.blocks[:to_block]
        image = tf.cast(image_and_mask(sizes)[0], tf.float32)[tf.newaxis]

        def function(x: tf.Tensor) -> tf.Tensor:
            deep = model.backbone(x)[1]
            return model.aspp(deep, training=False, batch_statistics=False) if with_aspp else deep

        return functools.partial(tf.function(function), image / 255.0)

    def extract() -> Callable[[], object]:
        model = fused_model(variant)
        image = image_and_mask(sizes)[0][tf.newaxis]
        return functools.partial(tf.function(lambda x: model.extract(x)), image)

    def segment() -> Callable[[], object]:
        model = fused_model(variant)
        image, mask = image_and_mask(sizes)
        predictor = Predictor(model)
        state = video_state.from_flat(predictor.start(image, mask), 1).scales[0]

        def function(features, reference, previous):
            return model.segment(*features, reference, previous).logits

        arguments = predictor.features(image), state.reference, state.previous
        return functools.partial(tf.function(function), *arguments)

    return [
        Case("whole frame", group, functools.partial(_step, variant, sizes)),
        Case("backbone to the end of its entry flow", group, lambda: backbone(_ENTRY_BLOCKS)),
        Case("backbone to the end of its middle flow", group, lambda: backbone(_MIDDLE_BLOCKS)),
        Case("backbone", group, lambda: backbone(None)),
        Case("backbone, ASPP", group, lambda: backbone(None, with_aspp=True)),
        Case("backbone, ASPP, decoder, embedding", group, extract),
        Case("matching and head", group, segment),
    ]


def _head_cases(sizes: Sizes) -> list[Case]:
    grid = (-(-sizes.height // 4), -(-sizes.width // 4))

    def head(function: Callable, objects: int) -> Callable[[], object]:
        layer = SegmentationHead(num_cues=3)
        features = tf.random.uniform([1, *grid, 256])
        cues = tf.random.uniform([objects, *grid, 3])
        layer(features, cues)
        return functools.partial(tf.function(functools.partial(function, layer)), features, cues)

    functions = {
        "ours, features shared": lambda layer, *inputs: layer(*inputs),
        "features repeated": _joined_head,
    }
    return [
        Case(name, f"head, {objects} objects", functools.partial(head, function, objects))
        for objects in _OBJECT_COUNTS
        for name, function in functions.items()
    ]
