"""Training clips of one frame and its mask: all that is known of a video before it is segmented.

Every frame of a clip is another view of that one frame: camera and objects move, light changes.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.data import scene_clip
from feelvos_tf.data.moving_scenes import MovingScenes
from feelvos_tf.data.training_clip import ClipSettings, EncodedClip

# Views are drawn so many times as clips are asked for: where an object is small, few of them show
# enough of it.
_MOST_DRAWN = 10


def first_frame_clips(
    image: np.ndarray,
    mask: np.ndarray,
    count: int,
    crop_size: tuple[int, int],
    seed: int,
    scales: tuple[float, float] = (1.0, 1.4),
) -> tf.data.Dataset:
    """Returns batches of one clip, each as `training_dataset` makes them.

    Every clip shows all objects in its reference. Where too few views do there are fewer clips
    than were asked for, perhaps none.

    Args:
      image: uint8 [height, width, 3] RGB.
      mask: object ids, uint8 [height, width]; 0 is background, 255 void.
      count: number of clips.
      crop_size: (height, width) of the clips.
      seed: the only source of randomness; the same seed gives the same clips.
      scales: smallest and largest factor on the size of the image.
    """
    settings = _clip_settings(crop_size)
    ids = [i for i in np.unique(mask) if i not in (0, VOID)]
    scenes = _scenes(len(ids), scales)
    frame = tf.io.encode_png(image)[tf.newaxis]
    labels = tf.io.encode_png(_numbered(mask, ids)[..., np.newaxis])[tf.newaxis]

    def draw(number: tf.Tensor):
        own_seed = tf.stack([tf.constant(seed, tf.int64), number])
        encoded = EncodedClip(tf.constant("first frame"), frame, labels, own_seed)
        donors = scene_clip.Donors(frame, labels)  # Asked for, and not used by these scenes.
        clip, is_usable = scene_clip.make_clip(encoded, donors, settings, scenes)
        return clip._asdict(), is_usable & (clip.num_objects == len(ids) + 1)

    drawn = tf.data.Dataset.range(_MOST_DRAWN * count).map(
        draw, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    clips = drawn.filter(lambda _, is_usable: is_usable).map(lambda clip, _: clip)
    return clips.take(count).batch(1).prefetch(2)


def _numbered(mask: np.ndarray, ids: list[int]) -> np.ndarray:
    """Returns the mask with the numbers 1, 2, ... in place of the ids; void stays."""
    table = np.zeros(VOID + 1, np.uint8)
    table[VOID] = VOID
    table[ids] = np.arange(1, len(ids) + 1)
    return table[mask]


def _scenes(num_objects: int, scales: tuple[float, float]) -> MovingScenes:
    """Returns scenes of nothing but the frame itself, in which all objects are followed."""
    return MovingScenes(
        min_scale=scales[0],
        max_scale=scales[1],
        transplant_probability=0.0,
        paste_probability=0.0,
        count_shares=[0.0] * (num_objects - 1) + [1.0],
    )


def _clip_settings(crop_size: tuple[int, int]) -> ClipSettings:
    """Returns the settings of `training_dataset` as far as such clips have them."""
    return ClipSettings(
        crop_size=crop_size,
        min_scale=1.0,
        max_scale=1.0,
        flip_probability=0.0,
        decoder_output_stride=4,
        min_label_count=10,
        first_frame_only=True,
        max_frame_gap=1,
        damage_previous_mask=True,
    )
