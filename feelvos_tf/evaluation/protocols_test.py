import json
import shutil

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.evaluation import protocols
from feelvos_tf.media import masks
from feelvos_tf.testing import drawn_masks, drawn_videos


def test_every_data_set_has_a_protocol():
    assert list(protocols.PROTOCOLS) == list(datasets.DATASETS)


def test_a_data_set_without_a_protocol_is_refused_with_the_place_to_add_one(monkeypatch):
    monkeypatch.setitem(datasets.DATASETS, "mine", None)
    sentence = (
        r"expected an entry of PROTOCOLS in feelvos_tf/evaluation/protocols\.py, .*davis_2016"
    )
    for name in ("mine", "kitti"):
        with pytest.raises(InputError, match=f"^{name}: {sentence}"):
            protocols.dataset_ground_truths("root", name)


def stems(ground_truth):
    return [path.stem for path in ground_truth.masks]


def test_davis_leaves_out_the_first_and_last_frame(tmp_path):
    root = drawn_videos.write_davis(tmp_path, {"a": [1, 2], "b": [1]}, 5)
    a, b = protocols.dataset_ground_truths(root)
    assert stems(a) == ["00001", "00002", "00003"]
    assert [path.stem for path in a.images] == stems(a)
    assert (a.objects, b.objects) == ((1, 2), (1,))
    assert a.scored.shape == (2, 3)
    assert a.scored.all()
    assert not a.binary


def test_davis_counts_objects_up_to_the_largest_id_of_the_first_mask(tmp_path):
    root = drawn_videos.write_davis(tmp_path, {"a": [1, 3]}, 4)
    folder = root / "Annotations/480p/a"
    first = masks.read_annotation(folder / "00000.png")
    first[0] = masks.VOID
    masks.write_mask(folder / "00000.png", first)
    masks.write_mask(folder / "00002.png", drawn_masks.draw(2, [1, 3, 7]))
    assert protocols.dataset_ground_truths(root)[0].objects == (1, 2, 3)


def test_davis_2016_has_one_object_painted_255(tmp_path):
    root = drawn_videos.write_davis(tmp_path, {"a": [1, 2]}, year="2016")
    (a,) = protocols.dataset_ground_truths(root, "davis_2016")
    assert a.objects == (1,)
    assert a.binary


def test_any_split_can_be_scored(tmp_path):
    root = drawn_videos.write_davis(tmp_path, {"a": [1], "b": [1]}, split="test-dev")
    (b,) = protocols.dataset_ground_truths(root, split="test-dev", sequences=["b"])
    assert b.name == "b"


def test_a_first_mask_without_objects_is_refused(tmp_path):
    root = drawn_videos.write_davis(tmp_path, {"a": []})
    with pytest.raises(InputError, match=r"00000\.png: expected at least one object, found none"):
        protocols.dataset_ground_truths(root)


def write_youtube_vos(root, listed):
    base = root / "valid"
    drawn_masks.write_images(base / "JPEGImages/v", 5, step=5)
    sequence = [drawn_masks.draw(i, [1] if i < 2 else [1, 4]) for i in range(5)]
    drawn_masks.write_masks(base / "Annotations/v", sequence, step=5)
    objects = {key: {"category": "dog", "frames": frames} for key, frames in listed.items()}
    (base / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    return root


def test_youtube_vos_scores_each_object_after_its_first_mask_in_the_listed_frames(tmp_path):
    listed = {"1": ["00000", "00005", "00015"], "4": ["00010", "00015", "00020"]}
    root = write_youtube_vos(tmp_path, listed)
    (v,) = protocols.dataset_ground_truths(root, "youtube_vos")
    assert stems(v) == ["00005", "00015", "00020"]
    assert v.objects == (1, 4)
    np.testing.assert_array_equal(v.scored, [[True, True, False], [False, True, True]])


def test_youtube_vos_needs_masks_of_the_listed_frames_and_a_list(tmp_path):
    root = write_youtube_vos(tmp_path, {"1": ["00000", "00015"]})
    (root / "valid/Annotations/v/00015.png").unlink()
    with pytest.raises(InputError, match="frame 00015, which has no mask to score against"):
        protocols.dataset_ground_truths(root, "youtube_vos")
    (root / "valid/meta.json").unlink()
    with pytest.raises(InputError, match=r"v: meta\.json lists no object"):
        protocols.dataset_ground_truths(root, "youtube_vos")


def test_youtube_objects_scores_annotated_frames_after_the_first_by_j(tmp_path):
    drawn_masks.write_images(tmp_path / "JPEGImages/cat", 25)
    sequence = [drawn_masks.draw(i, [255]) for i in range(3)]
    drawn_masks.write_masks(tmp_path / "Annotations/cat", sequence, step=10)
    (cat,) = protocols.dataset_ground_truths(tmp_path, "youtube_objects")
    assert stems(cat) == ["00010", "00020"]
    assert cat.binary
    assert not protocols.measures_f("youtube_objects")
    assert protocols.measures_f("davis_2017")


def test_youtube_objects_can_count_the_first_annotated_frame(tmp_path):
    drawn_masks.write_masks(tmp_path / "Annotations/cat", [drawn_masks.draw(0, [255])] * 3, step=10)
    chosen = (tmp_path, "youtube_objects")
    (cat,) = protocols.dataset_ground_truths(*chosen, count_first_frame=True)
    assert stems(cat) == ["00000", "00010", "00020"]
    with pytest.raises(InputError, match="davis_2017: expected a protocol that counts the first"):
        protocols.dataset_ground_truths(tmp_path, count_first_frame=True)


@pytest.mark.parametrize("year", ["2016", "2017"])
def test_masks_and_lists_are_enough(tmp_path, year):
    root = drawn_videos.write_davis(tmp_path, {"a": [1, 2]}, 8, year=year)
    (expected,) = protocols.dataset_ground_truths(root, f"davis_{year}")
    shutil.rmtree(root / "JPEGImages")
    (found,) = protocols.dataset_ground_truths(root, f"davis_{year}")
    assert (found.masks, found.objects) == (expected.masks, expected.objects)
    assert found.images == (None,) * 6
    shutil.rmtree(root / "Annotations")
    with pytest.raises(InputError, match=f"480p: expected the folder of davis_{year}'s masks"):
        protocols.dataset_ground_truths(root, f"davis_{year}")


def test_a_tree_of_white_on_black_has_one_object(tmp_path):
    sequence = [drawn_masks.draw(i, [255] if i else []) for i in range(5)]
    drawn_masks.write_masks(tmp_path / "x", sequence)
    (x,) = protocols.folder_ground_truths(tmp_path)
    assert (x.objects, x.binary) == ((1,), True)
    np.testing.assert_array_equal(x.scored, [[False, True, True]])


def test_a_tree_is_scored_in_natural_order(tmp_path):
    (tmp_path / "x").mkdir()
    for number in range(1, 12):
        masks.write_mask(tmp_path / f"x/{number}.png", drawn_masks.draw(number, [1]))
    (x,) = protocols.folder_ground_truths(tmp_path)
    assert stems(x) == [str(number) for number in range(2, 11)]


def test_void_next_to_ids_is_not_an_object(tmp_path):
    drawn_masks.write_masks(tmp_path / "x", [drawn_masks.draw(i, [255, 2]) for i in range(4)])
    (x,) = protocols.folder_ground_truths(tmp_path)
    assert (x.objects, x.binary) == ((2,), False)


def test_masks_without_predictions_are_not_read(tmp_path):
    drawn_masks.write_masks(tmp_path / "truth/x", [drawn_masks.draw(i, [1]) for i in range(4)])
    drawn_masks.write_masks(tmp_path / "truth/y", [drawn_masks.draw(i, [1]) for i in range(4)])
    Image.new("LA", (8, 8), (1, 100)).save(tmp_path / "truth/y/00001.png")
    (tmp_path / "out/x").mkdir(parents=True)
    x, y = protocols.folder_ground_truths(tmp_path / "truth", None, [tmp_path / "out"])
    assert (x.objects, y.objects) == ((1,), ())
    assert y.scored.shape == (0, 2)
    with pytest.raises(InputError, match=r"y/00001\.png: expected a mask"):
        protocols.folder_ground_truths(tmp_path / "truth")


def test_a_tree_of_masks_may_have_gaps_in_ids_and_objects_that_appear_later(tmp_path):
    sequence = [drawn_masks.draw(i, [3] if i < 2 else [3, 200]) for i in range(6)]
    drawn_masks.write_masks(tmp_path / "indoor" / "x", sequence)
    drawn_masks.write_masks(tmp_path / "y", sequence[:3])
    x, y = protocols.folder_ground_truths(tmp_path)
    assert (x.name, y.name) == ("indoor/x", "y")
    assert x.objects == (3, 200)
    assert stems(x) == ["00001", "00002", "00003", "00004"]
    np.testing.assert_array_equal(x.scored, [[1, 1, 1, 1], [0, 0, 1, 1]])
    np.testing.assert_array_equal(y.scored, [[1], [0]])
    assert [t.name for t in protocols.folder_ground_truths(tmp_path, ["y"])] == ["y"]


def test_trees_without_masks_sequences_or_objects_are_refused(tmp_path):
    with pytest.raises(
        InputError, match="nowhere: expected a folder of ground truth, found no such"
    ):
        protocols.folder_ground_truths(tmp_path / "nowhere")
    with pytest.raises(InputError, match="expected ground truth, found no mask PNG"):
        protocols.folder_ground_truths(tmp_path)
    drawn_masks.write_masks(tmp_path / "a", [drawn_masks.draw(0, [])] * 3)
    with pytest.raises(InputError, match="at least one object"):
        protocols.folder_ground_truths(tmp_path)
    with pytest.raises(InputError, match="expected some of a, found 'b'"):
        protocols.folder_ground_truths(tmp_path, ["b"])
