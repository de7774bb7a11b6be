from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import own_folders, tfrecords
from feelvos_tf.media import masks


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
def test_masks_are_found_and_frames_without_one_skipped(tmp_path, frames, found, name):
    write(tmp_path, frames, found)
    other = (frames.replace("a", "b", 1), found.replace("a", "b", 1))
    if "images" not in frames and "JPEG" not in frames:
        write(tmp_path, *other)
    videos = own_folders.list_folder(tmp_path)
    assert videos[0].name == name
    assert [path.stem for path in videos[0].frames] == ["0", "1"]
    assert [path.suffix for path in videos[0].masks] == [".png", ".png"]
    assert tfrecords.encode(videos[0])[1].objects == [1]


def test_linked_folders_are_found(tmp_path):
    write(tmp_path / "disk", "images/a", "masks/a")
    write(tmp_path / "root", "images/b", "masks/b")
    for kind in ("images", "masks"):
        (tmp_path / "root" / kind / "a").symlink_to(tmp_path / "disk" / kind / "a")
    assert [video.name for video in own_folders.list_folder(tmp_path / "root")] == ["a", "b"]


def test_masks_of_0_and_255_show_one_object(tmp_path):
    write(tmp_path, "images/a", "masks/a", value=255)
    (video,) = own_folders.list_folder(tmp_path)
    assert video.binary_masks
    assert tfrecords.encode(video)[1].objects == [1]


def put(root, names, color=(9, 9, 9), size=(9, 8)):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, color).save(root / name)


@pytest.mark.parametrize(
    ("frame", "mask", "name"),
    [
        ("{v}/frame_{n}.jpg", "{v}/mask_{n}.png", "shot1"),
        ("{v}_frames/{n}.jpg", "{v}_masks/{n}.png", "shot1"),
        ("{v}/images/{n}.png", "{v}/masks/{n}.png", "shot1"),
        ("{v}/{n}.png", "{v}/{n}_mask.png", "shot1"),
        ("img/{v}/img{n}.jpg", "gt/{v}/gt{n}.png", "shot1"),
        ("{v} Frames/{n}.jpeg", "{v} Labels/label-{n}.png", "shot1"),
    ],
)
def test_names_may_differ_in_words_for_frame_and_mask(tmp_path, frame, mask, name):
    for v in ("shot1", "shot2"):
        put(tmp_path, [frame.format(v=v, n=n) for n in (2, 10, 11)])
        put(tmp_path, [mask.format(v=v, n=n) for n in (2, 10)], color=(1, 1, 1))
    one, two = own_folders.list_folder(tmp_path)
    assert (one.name, two.name) == (name, name.replace("1", "2"))
    for video, v in ((one, "shot1"), (two, "shot2")):
        expected = [[tmp_path / form.format(v=v, n=n) for n in (2, 10)] for form in (frame, mask)]
        assert [list(video.frames), list(video.masks)] == expected
        assert tfrecords.encode(video)[1].objects == [1]


def test_a_color_is_the_same_object_in_all_frames_of_a_video(tmp_path):
    put(tmp_path, [f"a/{n}.jpg" for n in range(3)])
    colors = [(250, 9, 9), (9, 250, 9), (0, 0, 0)]
    for number, color in enumerate(colors):
        put(tmp_path, [f"a/{number}.png"], color)
    [video] = own_folders.list_folder(tmp_path)
    assert video.mask_colors == {(9, 250, 9): 1, (250, 9, 9): 2}
    example, info = tfrecords.encode(video)
    assert info.objects == [1, 2]
    pngs = example.feature_lists.feature_list["segmentation/object/encoded"].feature
    values = [np.asarray(Image.open(io.BytesIO(png.bytes_list.value[0]))).max() for png in pngs]
    assert values == [2, 1, 0]
    # Those of DAVIS' palette keep their ids.
    for number, color in enumerate(masks.DAVIS_PALETTE[[5, 2, 0]]):
        put(tmp_path, [f"a/{number}.png"], tuple(color.tolist()))
    [video] = own_folders.list_folder(tmp_path)
    assert sorted(video.mask_colors.values()) == [2, 5]


def test_many_colors_and_ambiguous_names_give_one_line_errors(tmp_path):
    put(tmp_path, ["a/0.jpg"], size=(64, 48))
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a/0.png")
    with pytest.raises(InputError, match="0.png: expected one color per object, found .* colors"):
        own_folders.list_folder(tmp_path)
    put(tmp_path, ["b/frame_1.jpg", "b/image_1.jpg", "b/mask_1.png"])
    (tmp_path / "a/0.png").unlink()
    (tmp_path / "a/0.jpg").unlink()
    with pytest.raises(InputError, match="found frame_1.jpg and image_1.jpg"):
        own_folders.list_folder(tmp_path)


def test_missing_and_ambiguous_folders_give_one_line_errors(tmp_path):
    with pytest.raises(InputError, match="expected a folder of frames and masks"):
        own_folders.list_folder(tmp_path / "none")
    with pytest.raises(InputError, match="found 0 folders of frames and 0 of masks"):
        own_folders.list_folder(tmp_path)
    write(tmp_path, "images/a", "masks/a")
    write(tmp_path, "images/b", "masks/a")
    with pytest.raises(InputError, match="images/b: expected one folder with masks .* found none"):
        own_folders.list_folder(tmp_path)
    write(tmp_path, "images/b", "masks/b")
    write(tmp_path, "images/b", "labels/b")
    with pytest.raises(InputError, match="found .*labels/b and .*masks/b"):
        own_folders.list_folder(tmp_path)


@pytest.fixture
def root(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(20):
        picture = Image.fromarray(np.full((8, 9), i, np.uint8))
        picture.convert("RGB").save(tmp_path / f"images/set_{i:02d}.jpg")
        picture.save(tmp_path / f"masks/set_{i:02d}.png")
    return tmp_path


def test_every_image_has_its_mask_in_a_reproducible_shuffled_order(root):
    found = own_folders.list_stills(root)
    names = [still.name for still in found]
    assert sorted(names) == [f"set_{i:02d}" for i in range(20)] != names
    assert names == [still.name for still in own_folders.list_stills(root)]
    for still in found:
        assert still.frames == (root / f"images/{still.name}.jpg",)
        assert still.masks == (root / f"masks/{still.name}.png",)
        assert not still.binary_masks


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        (
            "masks/set_03.png",
            "mask of frame set_03, found none .20 images in .*/images, 19 masks in",
        ),
        ("images/set_04.jpg", "mask set_04.png has no image .19 images in .*/images, 20 masks in"),
    ],
)
def test_an_image_or_mask_without_partner_gives_a_one_line_error(root, lost, sentence):
    (root / lost).unlink()
    with pytest.raises(InputError, match=sentence):
        own_folders.list_stills(root)


def test_missing_and_empty_folders_give_one_line_errors(root):
    with pytest.raises(InputError, match="nowhere/images holds no .jpg frame"):
        own_folders.list_stills(root / "nowhere")
    for mask in (root / "masks").iterdir():
        mask.unlink()
    with pytest.raises(
        InputError, match="mask of frame set_00, found none .20 images in .*, 0 masks in"
    ):
        own_folders.list_stills(root)
