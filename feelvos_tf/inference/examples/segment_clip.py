"""Segments a clip from the mask of its first frame and writes some frames to clip.jpg."""

import pathlib

import numpy as np

import feelvos_tf
from feelvos_tf.media import overlay, pictures, video

OUTPUT = pathlib.Path("examples_output")

frames = list(video.open_frames("testdata/bunny.mp4"))  # uint8 [240, 426, 3] RGB each
mask = feelvos_tf.read_mask("testdata/bunny.png")  # uint8 [240, 426]: 1 is the rabbit

predictor = feelvos_tf.load(inference_size=240)
ids = predictor.segment_clip(frames, mask)  # uint8 [36, 240, 426]

shown = [overlay.overlay(frames[number], ids[number]) for number in (0, 9, 18, 27, 35)]
pictures.write_image(OUTPUT / "clip.jpg", overlay.contact_sheet(shown, columns=5, tile_width=240))
print(f"{len(ids)} masks; the rabbit covers {100 * np.mean(ids[-1] == 1):.1f} % of the last frame")
