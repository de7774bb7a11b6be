"""Reference pixels of several frames in one reference, with a bound on their number.

The pixels of an object may come from the frame it was given in and from frames in which its mask
was corrected. Global matching looks for the nearest of all of them.
"""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.global_matching import Reference, sort_reference


def owners(reference: Reference) -> tf.Tensor:
    """Returns int32 `[pixels]`: the object of every reference pixel."""
    num_objects = tf.size(reference.offsets) - 1
    return tf.repeat(tf.range(num_objects), reference.offsets[1:] - reference.offsets[:-1])


def joined(
    reference: Reference, added: Reference, replaced: tf.Tensor, max_pixels: tf.Tensor
) -> Reference:
    """Returns the pixels of both.

    Args:
      reference: what there is.
      added: of the same objects.
      replaced: bool `[objects]`: objects that keep the added pixels only.
      max_pixels: see `grouped`.
    """
    before = owners(reference)
    keep = ~tf.gather(replaced, before)
    pixels = tf.concat([tf.boolean_mask(reference.embeddings, keep), added.embeddings], 0)
    of_pixels = tf.concat([tf.boolean_mask(before, keep), owners(added)], 0)
    return grouped(pixels, of_pixels, tf.size(reference.offsets) - 1, max_pixels)


def grouped(
    pixels: tf.Tensor, of_pixels: tf.Tensor, num_objects: tf.Tensor, max_pixels: tf.Tensor
) -> Reference:
    """Returns pixels as a reference.

    Of an object that has more than `max_pixels`, that many are kept, at equal distances in the
    order of the pixels: all frames that they come from are thinned alike, so that with every
    further one the earlier ones fade.

    Args:
      pixels: float32 `[pixels, channels]`.
      of_pixels: int32 `[pixels]`, the object of each.
      num_objects: int32 scalar.
      max_pixels: int32 scalar; 0 keeps all.
    """
    order = tf.argsort(of_pixels, stable=True)
    of_pixels = tf.gather(of_pixels, order)
    kept = _kept(of_pixels, max_pixels)
    order, of_pixels = tf.boolean_mask(order, kept), tf.boolean_mask(of_pixels, kept)
    offsets = tf.searchsorted(of_pixels, tf.range(num_objects + 1))
    return sort_reference(Reference(tf.gather(pixels, order), offsets))


def _kept(of_pixels: tf.Tensor, max_pixels: tf.Tensor) -> tf.Tensor:
    """Returns bool `[pixels]`; `of_pixels` is ascending."""
    first = tf.searchsorted(of_pixels, of_pixels, side="left")
    end = tf.searchsorted(of_pixels, of_pixels, side="right")
    # Products of two counts may not fit into 32 bits.
    rank = tf.cast(tf.range(tf.size(of_pixels)) - first, tf.int64)
    count = tf.cast(end - first, tf.int64)
    bound = tf.cast(max_pixels, tf.int64)
    is_chosen = (rank + 1) * bound // count > rank * bound // count
    return (bound == 0) | (count <= bound) | is_chosen
