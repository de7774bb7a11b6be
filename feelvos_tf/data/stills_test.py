import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import stills


@pytest.fixture
def root(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(20):
        picture = Image.fromarray(np.full((8, 9), i, np.uint8))
        picture.convert("RGB").save(tmp_path / f"images/set_{i:02d}.jpg")
        picture.save(tmp_path / f"masks/set_{i:02d}.png")
    return tmp_path


def test_every_image_comes_with_its_mask_mixed_and_always_in_the_same_order(root):
    found = stills.list_stills(root)
    names = [still.name for still in found]
    assert sorted(names) == [f"set_{i:02d}" for i in range(20)] != names
    assert names == [still.name for still in stills.list_stills(root)]
    for still in found:
        assert still.frames == (root / f"images/{still.name}.jpg",)
        assert still.masks == (root / f"masks/{still.name}.png",)
        assert not still.binary_masks


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        ("masks/set_03.png", "set_03.jpg has no mask of the same name .20 images in .*, 19 masks"),
        ("images/set_04.jpg", "set_04.png has no image of the same name"),
    ],
)
def test_a_picture_without_partner_is_one_sentence(root, lost, sentence):
    (root / lost).unlink()
    with pytest.raises(InputError, match=sentence):
        stills.list_stills(root)


def test_missing_and_empty_folders_are_one_sentence(root):
    with pytest.raises(InputError, match="folder of stills .*nowhere/images does not exist"):
        stills.list_stills(root / "nowhere")
    for mask in (root / "masks").iterdir():
        mask.unlink()
    with pytest.raises(InputError, match="masks holds no .png file"):
        stills.list_stills(root)
