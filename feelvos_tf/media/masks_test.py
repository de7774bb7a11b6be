import numpy as np
import pytest
from PIL import ExifTags, Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import given_mask, masks


def test_palette_is_the_pascal_color_map():
    assert masks.DAVIS_PALETTE.shape == (256, 3)
    assert masks.DAVIS_PALETTE.dtype == np.uint8
    for index, color in {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        7: (128, 128, 128),
        8: (64, 0, 0),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }.items():
        assert tuple(masks.DAVIS_PALETTE[index]) == color


def test_palette_gives_the_colors_of_real_davis_masks(real_data):
    folder = real_data / "davis2017_multi/Annotations/240p"
    mask = next(folder.glob("*/00000.png"))
    palette = np.reshape(Image.open(mask).getpalette(), [-1, 3])
    # These files round 3/4 of full brightness to 191, and define only the first 22 colors.
    np.testing.assert_allclose(palette[:22], masks.DAVIS_PALETTE[:22].astype(int), atol=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_written_ids_are_read_back_with_gaps_and_void(tmp_path, dtype):
    ids = np.array([[0, 1, 4], [255, 17, 200]], dtype)
    path = tmp_path / "new" / "00000.png"
    masks.write_mask(path, ids)
    read = masks.read_annotation(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, ids)
    with Image.open(path) as image:
        assert image.mode == "P"
        color = np.asarray(image.convert("RGB"))[0, 1]
    assert tuple(color) == (128, 0, 0)


def test_binary_masks_hold_one_object_above_127(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(path)
    np.testing.assert_array_equal(masks.read_annotation(path, binary=True), [[0, 0, 1, 1]])
    np.testing.assert_array_equal(masks.read_annotation(path), [[0, 127, 128, 255]])


def test_binary_masks_that_hold_ids_are_one_object(tmp_path):
    ids = np.array([[0, 1, 3, 2]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "gray.png")
    masks.write_mask(tmp_path / "indexed.png", ids)
    for name in ("gray.png", "indexed.png"):
        np.testing.assert_array_equal(
            masks.read_annotation(tmp_path / name, binary=True), [[0, 1, 1, 1]]
        )


@pytest.mark.parametrize("binary", [False, True])
def test_one_bit_masks_hold_object_one(tmp_path, binary):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[False, True]])).save(path)
    np.testing.assert_array_equal(masks.read_annotation(path, binary), [[0, 1]])


@pytest.mark.parametrize(
    ("mode", "color"),
    [("RGB", (1, 1, 2)), ("RGBA", (9, 9, 9, 254)), ("LA", (9, 0)), ("I;16", 3)],
)
def test_colors_and_transparency_are_refused_and_named(tmp_path, mode, color):
    path = tmp_path / "color.png"
    Image.new(mode, (4, 3), color).save(path)
    with pytest.raises(InputError, match=r"color\.png: expected a mask .* found .*(colors|kind)"):
        masks.read_annotation(path)


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_opaque_gray_is_read_in_any_mode(tmp_path, mode):
    """Such as `bear/00077.png` in some copies of DAVIS 2016."""
    ids = np.array([[0, 7], [255, 0]], np.uint8)
    Image.fromarray(ids).convert(mode).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(masks.read_annotation(tmp_path / "gray.png"), ids)
    np.testing.assert_array_equal(masks.read_annotation(tmp_path / "gray.png", True), ids > 127)


def test_missing_corrupt_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        masks.read_annotation(tmp_path / "none.png")
    masks.write_mask(tmp_path / "cut.png", np.random.RandomState(0).randint(0, 9, [99, 99]))
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "photo.png", format="JPEG")
    for name in ("cut.png", "text.png", "folder.png", "photo.png"):
        with pytest.raises(InputError, match=name):
            masks.read_annotation(tmp_path / name)


@pytest.mark.parametrize(
    "ids", [np.zeros([2, 2]), np.zeros([2, 2, 1], int), np.array([[256]]), np.array([[-1]])]
)
def test_arrays_that_are_not_masks_are_not_written(tmp_path, ids):
    with pytest.raises(ValueError, match="ids"):
        masks.write_mask(tmp_path / "m.png", ids)
    assert not list(tmp_path.iterdir())


def test_object_ids_exclude_background_and_void():
    assert masks.object_ids(np.array([[0, 5, 255], [2, 5, 0]], np.uint8)) == [2, 5]
    assert masks.object_ids(np.zeros([3, 3], np.uint8)) == []


def test_a_mask_is_rotated_by_its_own_exif_data(tmp_path):
    ids = np.zeros((4, 6), np.uint8)
    ids[0, :3] = 7
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # Rotate by 90 degrees clockwise for display.
    stored = Image.fromarray(np.rot90(ids))
    stored.putpalette(masks.DAVIS_PALETTE.tobytes())
    stored.save(tmp_path / "turned.png", exif=exif)
    read = given_mask.read(tmp_path / "turned.png", ids.shape, given_mask.ObjectNumbers())
    np.testing.assert_array_equal(masks.read_annotation(tmp_path / "turned.png"), ids)
    np.testing.assert_array_equal(read, ids)
