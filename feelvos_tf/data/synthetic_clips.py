"""Training clips with synthetic motion: from photographs, videos or a single first frame.

`MovingScenes` holds the settings; `scene_composing` draws the frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.data import paper_clips, scene_composing, tfrecords
from feelvos_tf.data.paper_clips import ClipSettings, TrainingClip
from feelvos_tf.data.scene_composing import MovingScenes, Picture
from feelvos_tf.media import masks

DONORS = 2
"""Number of pictures that lend objects to a clip of `training_dataset`."""
# Views drawn per requested clip: few views show enough of a small object.
_VIEWS_PER_CLIP = 10


def draw_frames(
    num_frames: int, clip_frames: int, rng: np.random.Generator, scenes: MovingScenes
) -> np.ndarray:
    """Returns the indices of a clip's frames in a video, int32 [clip_frames], or [1] for a still.

    The first is the reference, which can be any frame; the others run forward or backward with a
    random gap.
    """
    if num_frames < clip_frames or rng.random() < scenes.still_probability:
        return rng.integers(num_frames, size=1, dtype=np.int32)
    steps = clip_frames - 2
    gap = int(rng.integers(1, min(scenes.max_frame_gap, (num_frames - 1) // steps) + 1))
    start = rng.integers(num_frames - gap * steps)
    following = start + gap * np.arange(steps + 1)
    if rng.random() < 0.5:
        following = following[::-1]
    return np.concatenate([rng.integers(num_frames, size=1), following]).astype(np.int32)


def make_clip(
    video: tfrecords.EncodedVideo,
    donors: Sequence[tfrecords.EncodedVideo],
    seed: tf.Tensor,
    clips: ClipSettings,
    scenes: MovingScenes,
) -> tuple[TrainingClip, tf.Tensor]:
    """Returns a random clip, and whether it can be trained on (bool []).

    Args:
      video: what the clip is made from: a single frame is moved as a still.
      donors: a random frame of each lends objects to the clip.
      seed: int64 [2], the only source of randomness.
      clips: settings.
      scenes: settings of the scenes.
    """

    def make(images, ids, seed, *lent):
        return scene_composing.make_clip(
            [Picture(*picture) for picture in zip(images, ids)],
            [Picture(*picture) for picture in zip(lent[::2], lent[1::2])],
            clips.crop_size,
            clips.num_frames,
            _generator(seed, 1),
            scenes,
        )

    frames = _chosen_frames(video, seed, clips, scenes)
    lent = []
    for number, donor in enumerate(donors):
        own = tf.random.experimental.stateless_fold_in(seed, number)
        count = tf.size(donor.images)
        lent += _decoded(donor, tf.random.stateless_uniform([], own, maxval=count, dtype=tf.int32))
    images, labels, previous = tf.numpy_function(
        make, [*frames, seed, *lent], [tf.uint8] * 3, stateful=False
    )
    shape = [clips.num_frames, *clips.crop_size]
    return paper_clips.finish_clip(
        tf.cast(tf.ensure_shape(images, [*shape, 3]), tf.float32),
        tf.ensure_shape(labels, shape),
        tf.ensure_shape(previous, clips.crop_size),
        video.video_id,
        seed,
        clips,
    )


def first_frame_clips(
    image: np.ndarray,
    mask: np.ndarray,
    count: int,
    crop_size: tuple[int, int],
    seed: int,
    scales: tuple[float, float] = (1.0, 1.4),
) -> tf.data.Dataset:
    """Returns batches of one clip each, like those of `training_dataset`, made from one frame.

    Every frame of a clip is another view of a video's first frame, the only one with a mask before
    propagation: camera and objects move, the light changes. Every clip shows all objects in its
    reference. If too few views do, there are fewer clips than `count`, possibly none.

    Args:
      image: uint8 [height, width, 3] RGB.
      mask: object ids, uint8 [height, width]; 0 is background, 255 void.
      count: number of clips.
      crop_size: (height, width) of the clips.
      seed: the only source of randomness; the same seed gives the same clips.
      scales: smallest and largest factor on the size of the image.
    """
    ids = masks.object_ids(mask)
    # All that matter to scenes are set: gin's values are meant for training the network itself.
    clips = ClipSettings(
        crop_size=crop_size,
        decoder_output_stride=4,
        min_label_count=10,
        damage_previous_mask=True,
        rollout_steps=0,
    )
    # Only the frame itself, with all objects followed.
    scenes = MovingScenes(
        min_scale=scales[0],
        max_scale=scales[1],
        transplant_probability=0.0,
        paste_probability=0.0,
        count_shares=[0.0] * (len(ids) - 1) + [1.0],
    )
    table = np.zeros(VOID + 1, np.uint8)
    table[VOID] = VOID
    table[ids] = np.arange(1, len(ids) + 1)
    video = tfrecords.EncodedVideo(
        tf.constant("first frame"),
        tf.io.encode_png(image)[tf.newaxis],
        tf.io.encode_png(table[mask][..., np.newaxis])[tf.newaxis],
    )

    def draw(number: tf.Tensor):
        own_seed = tf.stack([tf.constant(seed, tf.int64), number])
        # The donor is not used by these scenes.
        clip, is_usable = make_clip(video, [video], own_seed, clips, scenes)
        return clip._asdict(), is_usable & (clip.num_objects == len(ids) + 1)

    drawn = tf.data.Dataset.range(_VIEWS_PER_CLIP * count).map(
        draw, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    usable = drawn.filter(lambda _, is_usable: is_usable).map(lambda clip, _: clip)
    return usable.take(count).batch(1).prefetch(2)


def _generator(seed: np.ndarray, purpose: int) -> np.random.Generator:
    """Returns a random generator for one purpose, from a clip's seed (int64 [2])."""
    return np.random.default_rng([*(int(number) % 2**63 for number in seed), purpose])


def _chosen_frames(
    video: tfrecords.EncodedVideo, seed: tf.Tensor, clips: ClipSettings, scenes: MovingScenes
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns images and ids, uint8 [n, h, w, 3] and [n, h, w], of the frames to make a clip of."""

    def draw(count: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return draw_frames(int(count), clips.num_frames, _generator(numbers, 0), scenes)

    chosen = tf.numpy_function(draw, [tf.size(video.images), seed], tf.int32, stateful=False)
    return tf.map_fn(
        lambda frame: _decoded(video, frame),
        tf.ensure_shape(chosen, [None]),
        fn_output_signature=(
            tf.TensorSpec([None, None, 3], tf.uint8),
            tf.TensorSpec([None, None], tf.uint8),
        ),
    )


def _decoded(video: tfrecords.EncodedVideo, frame: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tfrecords.decode_frame(
        video.images[frame], video.masks[frame], dct_method="INTEGER_ACCURATE"
    )
