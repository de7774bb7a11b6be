"""Adds objects in later frames, corrects a frame and removes an object: add_and_correct.jpg.

Masks of the data set stand in for those that a person would draw on these frames.
"""

import pathlib

import numpy as np

import feelvos_tf
from feelvos_tf.media import masks, overlay, pictures, video

OUTPUT = pathlib.Path("examples_output")
POND = "testdata/{}/480p/koi-pond"  # Ids 1 and 3 are fish, 2 is a turtle.

frames = list(video.open_frames(POND.format("JPEGImages")))


def drawn(number: int, *objects: int) -> np.ndarray:
    """Returns a mask of some objects, uint8 [height, width]; 0 elsewhere."""
    ids = masks.read_annotation(pathlib.Path(POND.format("Annotations")) / f"{number:05d}.png")
    return np.where(np.isin(ids, objects), ids, 0).astype(np.uint8)


predictor = feelvos_tf.load()
predictor.start(frames[0], drawn(0, 1))
ids = [drawn(0, 1)]
for number, frame in enumerate(frames[1:], 1):
    found = predictor.step(frame)
    if number == 6:
        predictor.add_objects(drawn(number, 2))  # Followed from here on,
    if number == 10:
        predictor.add_objects(drawn(number, 3))  # usually without another pass of the network.
    if number == 16:
        predictor.correct(drawn(number, 1, 2, 3), background=True)
        found = drawn(number, 1, 2, 3)
    if number == 20:
        predictor.remove(3)
    ids.append(found)

shown = [overlay.overlay(frames[number], ids[number]) for number in (0, 7, 11, 16, 19, 23)]
pictures.write_image(OUTPUT / "add_and_correct.jpg", overlay.contact_sheet(shown, columns=6))
print(f"followed in the end: {predictor.object_ids}")
