from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import any_folder, tfrecords


def write(root, frames, found, value=1, stems=("0", "1", "2")):
    for folder, suffix in ((frames, "jpg"), (found, "png")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for stem in stems if suffix == "jpg" else stems[:2]:
            image = Image.fromarray(np.full((8, 9), value, np.uint8))
            image.convert("RGB" if suffix == "jpg" else "L").save(
                root / folder / f"{stem}.{suffix}"
            )


@pytest.mark.parametrize(
    ("frames", "found", "name"),
    [
        ("images/a", "masks/a", "a"),
        ("JPEGImages/480p/a", "Annotations/480p/a", "480p_a"),
        ("a/frames", "a/masks", "a"),
        ("a", "a", "a"),
    ],
)
def test_masks_are_found_and_frames_without_one_left_out(tmp_path, frames, found, name):
    write(tmp_path, frames, found)
    other = (frames.replace("a", "b", 1), found.replace("a", "b", 1))
    if "images" not in frames and "JPEG" not in frames:
        write(tmp_path, *other)
    videos = any_folder.list_folder(tmp_path)
    assert videos[0].name == name
    assert [path.stem for path in videos[0].frames] == ["0", "1"]
    assert [path.suffix for path in videos[0].masks] == [".png", ".png"]
    assert tfrecords.encode_with_info(videos[0])[1].objects == [1]


def test_masks_of_0_and_255_show_one_object(tmp_path):
    write(tmp_path, "images/a", "masks/a", value=255)
    (video,) = any_folder.list_folder(tmp_path)
    assert video.binary_masks
    assert tfrecords.encode_with_info(video)[1].objects == [1]


def test_what_cannot_be_told_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="expected a folder of frames and masks"):
        any_folder.list_folder(tmp_path / "none")
    with pytest.raises(InputError, match="found 0 folders of frames and 0 of masks"):
        any_folder.list_folder(tmp_path)
    write(tmp_path, "images/a", "masks/a")
    write(tmp_path, "images/b", "masks/a")
    with pytest.raises(InputError, match="images/b: expected one folder with masks .* found none"):
        any_folder.list_folder(tmp_path)
    write(tmp_path, "images/b", "masks/b")
    write(tmp_path, "images/b", "other/b")
    with pytest.raises(InputError, match="found .*masks/b and .*other/b"):
        any_folder.list_folder(tmp_path)
