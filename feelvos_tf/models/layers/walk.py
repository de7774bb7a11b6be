"""Lists all convolutions of a network by their place in it."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from feelvos_tf.models.layers.convolution import ConvNormActivation


def convolutions_by_path(
    layer: tf.keras.layers.Layer, path: str = ""
) -> Iterator[tuple[str, ConvNormActivation]]:
    """Yields every layer below `layer` that owns variables, and its path.

    The path is made of attribute names and positions in lists: `backbone/blocks/3/depthwise`.
    """
    if isinstance(layer, ConvNormActivation):
        yield path, layer
        return
    for name, value in vars(layer).items():
        if name.startswith("_"):
            continue
        parts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for position, part in parts:
            if isinstance(part, tf.keras.layers.Layer):
                place = name if position is None else f"{name}/{position}"
                yield from convolutions_by_path(part, f"{path}/{place}" if path else place)
