"""Follows an object through frames as they arrive, without keeping any: stream.mp4."""

import pathlib

import feelvos_tf
from feelvos_tf.media import overlay, video, video_writing

OUTPUT = pathlib.Path("examples_output")

# Alternatively, from feelvos_tf.media: `live_frames.open_camera(0)` or, for frames that another
# program writes to standard input, `live_frames.open_pipe()`.
frames = video.open_frames("testdata/bunny.mp4")
mask = feelvos_tf.read_mask("testdata/bunny.png")

predictor = feelvos_tf.load(inference_size=240)
sizes = []
with video_writing.writing_video(OUTPUT / "stream.mp4", frames.frames_per_second) as write:
    for frame in frames.timed():
        if frame.number == 0:
            predictor.start(frame.image, mask)
            ids = mask
        else:
            ids = predictor.step(frame.image)
        write(overlay.overlay(frame.image, ids), frame.time)
        sizes.append(sum(array.nbytes for array in predictor.state().values()))
print(f"the state: {sizes[0] / 1e6:.1f} MB after the first frame, {sizes[-1] / 1e6:.1f} at the end")
