"""Videos from lists and trees of folders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video, many_videos
from feelvos_tf.media import masks
from feelvos_tf.media.selection import Selection
from feelvos_tf.testing import drawn_videos


@pytest.fixture
def tree(tmp_path):
    """Returns a folder with two videos, a folder of pictures and an invalid video."""
    root = tmp_path / "tree"
    images, ids = zip(*(drawn_videos.draw(frame, [1, 2]) for frame in range(4)))
    (root / "more" / "b").mkdir(parents=True)
    for name in ("a.mp4", "more/a.mp4"):
        drawn_videos.write_video(root / name, images, 10)
    for frame, image in enumerate(images):
        Image.fromarray(image).save(root / "more" / "b" / f"{frame:05d}.png")
    (root / "broken.mp4").write_text("no video")
    (root / "no mask.mp4").write_text("left alone")
    for name in ("a", "more/a", "more/b", "broken"):
        masks.write_mask(root / f"{name}.png", ids[0])
    masks.write_mask(root / "a.2.png", ids[2] * 3)
    return root


def names_and_sizes(videos):
    found = {}
    for one in videos:
        try:
            input_video.check(one)
            found[one.name] = one.size
        except InputError as error:
            found[one.name] = str(error)
    return found


def test_a_tree_yields_the_videos_with_a_mask_of_the_same_name(tree):
    videos = many_videos.find(tree, Selection(end=3))
    found = names_and_sizes(videos)
    assert "broken.mp4: expected a video" in found.pop("broken")
    assert found == dict.fromkeys(("a", "more/a", "more/b"), (48, 80))
    [first] = [one for one in videos if one.name == "a"]
    assert first.object_ids() == [1, 2, 3, 6]
    np.testing.assert_array_equal(first.later_mask(2), masks.read_annotation(tree / "a.2.png"))
    assert first.frames.length == 3


def test_a_list_names_videos_and_masks(tree):
    lines = [
        "# video  mask  later",
        "tree/more/a.mp4 tree/more/a.png",
        "",
        "'tree/more/b' tree/more/b.png 1:tree/a.2.png",
        "tree/broken.mp4 tree/broken.png",
    ]
    path = tree.parent / "list.txt"
    path.write_text("\n".join(lines))
    videos = many_videos.find(path, Selection())
    assert [one.name for one in videos] == ["a", "b", "broken"]
    assert videos[1].object_ids() == [1, 2, 3, 6]
    assert "expected a video" in names_and_sizes(videos)["broken"]


@pytest.mark.parametrize(
    ("names", "frame"),
    [
        (("a.json",), "the first frame of a, found a.json as well"),
        (("a.2.json",), "frame 2 of a, found a.2.json as well"),
        (("a.02.bmp",), "frame 2 of a, found a.02.bmp as well"),
    ],
)
def test_two_masks_of_a_frame_in_a_tree_are_refused(tree, names, frame):
    for name in names:
        (tree / name).write_text("{}")
    with pytest.raises(InputError, match=f"png: expected one mask for {frame}"):
        many_videos.find(tree, Selection())


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_an_animation_in_a_tree_is_a_video(tree, suffix):
    images = [Image.fromarray(drawn_videos.draw(frame, [1, 2])[0]) for frame in range(3)]
    images[0].save(tree / f"moving.{suffix}", save_all=True, append_images=images[1:])
    (tree / "more" / "a.mp4").unlink()
    images[0].save(tree / f"more/a.{suffix}", save_all=True, append_images=images[1:])
    masks.write_mask(tree / "moving.png", drawn_videos.draw(0, [1, 2])[1])
    found = names_and_sizes(many_videos.find(tree, Selection()))
    assert set(found) == {"a", "broken", "more/a", "more/b", "moving"}
    if suffix == "gif":  # Older FFmpegs do not read an animated WebP.
        assert found["moving"] == found["more/a"] == (48, 80)


def test_videos_without_a_mask_are_counted(tree, capsys):
    images = [Image.fromarray(drawn_videos.draw(frame, [1, 2])[0]) for frame in range(3)]
    images[0].save(tree / "more/moving.gif", save_all=True, append_images=images[1:])
    many_videos.find(tree, Selection())
    assert "found none for no mask.mp4 and 1 more, skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected videos, each with a mask"),
        (b"a.mp4", "line 1: expected VIDEO MASK"),
        (b"a.mp4 a.png later.png", "line 1: expected FRAME:MASK"),
        (b"a.mp4 'a.png", "line 1: No closing quotation"),
        (b"a.mp4 a.png 5:b.png 05:c.png", "line 1: expected one mask for frame 5, found two"),
        (b"\n.. a.png", "line 2: expected a video"),
        ("ä.mp4 a.png".encode("latin-1"), "in UTF-8"),
        ("a.mp4 a.png".encode("utf-16"), "in UTF-8"),
        (b"x/a.mp4 a.png\ny/a.mp4 a.png", "two videos are called a"),
    ],
)
def test_invalid_lists_are_reported_in_one_sentence(tmp_path, content, sentence):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"list.txt: .*{sentence}"):
        many_videos.find(tmp_path / "list.txt", Selection())
    with pytest.raises(InputError, match="none: expected a list of videos, found no such file"):
        many_videos.find(tmp_path / "none", Selection())
