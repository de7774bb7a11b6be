import json
import resource

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.evaluation import (
    protocols,
    region_and_contour,
    region_and_contour_test,
    score_predictions,
)
from feelvos_tf.media import masks
from feelvos_tf.testing import drawn_masks, drawn_videos

OBJECTS = {"one": [1], "three": [1, 2, 3]}


@pytest.fixture
def ground_truths(tmp_path):
    return protocols.dataset_ground_truths(drawn_videos.write_davis(tmp_path / "davis", OBJECTS, 8))


@pytest.fixture
def predictions(tmp_path):
    return drawn_masks.write_predictions(tmp_path / "out", OBJECTS)


@pytest.fixture
def processes(monkeypatch):
    """Records the sizes of the pools that are started; 4 frames are enough for a process."""
    sizes = []
    pool = score_predictions.concurrent.futures.ProcessPoolExecutor

    def recording(workers, *args):
        sizes.append(workers)
        return pool(workers, *args)

    monkeypatch.setattr(score_predictions, "_FRAMES_PER_PROCESS", 4)
    monkeypatch.setattr(score_predictions.concurrent.futures, "ProcessPoolExecutor", recording)
    return sizes


def test_a_folder_scores_like_its_arrays(ground_truths, predictions):
    scores = score_predictions.score_folder(ground_truths, predictions)
    assert [sequence.name for sequence in scores.sequences] == ["one", "three"]
    assert scores.missing == []
    for sequence in scores.sequences:
        assert sequence.frames == tuple(f"{i:05d}" for i in range(1, 7))
        ids = OBJECTS[sequence.name]
        pairs = [(drawn_masks.draw(i, ids), drawn_masks.draw(i, ids, 2)) for i in range(1, 7)]
        frames = [(name, *pair) for name, pair in zip(sequence.frames, pairs)]
        expected = region_and_contour_test.score_frames(sequence.name, frames, ids)
        np.testing.assert_array_equal(sequence.j, expected.j)
        np.testing.assert_array_equal(sequence.f, expected.f)
    assert 0.5 < scores.summary.j_and_f < 1


def test_values_do_not_depend_on_the_number_of_processes(ground_truths, predictions, processes):
    alone = score_predictions.score_folder(ground_truths, predictions)
    assert processes == []
    together = score_predictions.score_folder(ground_truths, predictions, workers=3)
    assert processes == [2]
    assert alone.summary == together.summary
    for a, b in zip(alone.sequences, together.sequences):
        np.testing.assert_array_equal([a.j, a.f], [b.j, b.f])


def test_no_process_is_started_for_a_handful_of_frames(
    ground_truths, predictions, processes, monkeypatch
):
    monkeypatch.setattr(score_predictions, "_FRAMES_PER_PROCESS", 13)
    score_predictions.score_folder(ground_truths, predictions, workers=8)
    assert processes == []


def test_ids_missing_from_a_prediction_are_empty_masks(ground_truths, predictions):
    drawn_masks.write_masks(
        predictions / "three", [drawn_masks.draw(i, [1, 2], 0) for i in range(8)]
    )
    scores = score_predictions.score_folder(ground_truths, predictions)
    np.testing.assert_array_equal(scores.sequences[1].j.mean(axis=1), [1, 1, 0])


def test_objects_count_in_their_own_frames_only(tmp_path):
    truth = [drawn_masks.draw(i, [3] if i < 3 else [3, 9]) for i in range(6)]
    drawn_masks.write_masks(tmp_path / "truth/a", truth)
    drawn_masks.write_masks(tmp_path / "out/a", truth)
    masks.write_mask(tmp_path / "out/a/00003.png", drawn_masks.draw(3, [3]))
    ground_truths = protocols.folder_ground_truths(tmp_path / "truth")
    (a,) = score_predictions.score_folder(ground_truths, tmp_path / "out").sequences
    np.testing.assert_array_equal(a.j, [[1, 1, 1, 1], [np.nan, np.nan, np.nan, 1]])
    assert region_and_contour.summarize([a]).j_and_f == 1


def test_any_id_stands_for_the_one_object_of_davis_2016(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"a": [1, 2]}, 8, year="2016")
    ground_truths = protocols.dataset_ground_truths(root, "davis_2016")
    for value in ([1, 2], [1, 1], [255, 255]):
        out = drawn_masks.write_predictions(tmp_path / "out", {"a": value}, error=0)
        assert score_predictions.score_folder(ground_truths, out).summary.j_and_f == 1


def test_j_can_be_measured_alone(ground_truths, predictions):
    scores = score_predictions.score_folder(ground_truths, predictions, measure_f=False)
    assert scores.summary.f is None
    assert scores.sequences[0].f is None
    assert 0 < scores.summary.j.mean < 1


def refuse(ground_truths, predictions, match, **options):
    with pytest.raises(InputError, match=match):
        score_predictions.score_folder(ground_truths, predictions, **options)


def test_missing_masks_are_refused_with_the_first_of_them(ground_truths, predictions):
    (predictions / "three/00003.png").unlink()
    (predictions / "three/00004.png").unlink()
    refuse(
        ground_truths, predictions, "three: expected 6 .* found 4 .the first missing is 00003.png"
    )
    for path in predictions.glob("three/*"):
        path.unlink()
    refuse(ground_truths, predictions, "three: expected 6 predicted masks in .*, found 0")
    for path in predictions.glob("one/*"):
        path.unlink()
    refuse(ground_truths, predictions, "one: .* .and in 1 more sequences.; --allow_missing")


def test_the_first_and_last_mask_are_not_needed(ground_truths, predictions):
    (predictions / "one/00000.png").unlink()
    (predictions / "one/00007.png").unlink()
    assert score_predictions.score_folder(ground_truths, predictions).missing == []


def test_existing_masks_can_be_scored_and_the_rest_is_reported(ground_truths, predictions):
    whole = score_predictions.score_folder(ground_truths, predictions).sequences[0]
    (predictions / "one/00003.png").unlink()
    for path in predictions.glob("three/*"):
        path.unlink()
    scores = score_predictions.score_folder(ground_truths, predictions, allow_missing=True)
    (one,) = scores.sequences
    assert "00003" not in one.frames
    np.testing.assert_array_equal(one.j, np.delete(whole.j, 2, axis=1))
    assert [sentence.split(":")[0] for sentence in scores.missing] == [
        "sequence one",
        "sequence three",
    ]
    for path in predictions.glob("one/*"):
        path.unlink()
    refuse(
        ground_truths, predictions, "no prediction of a frame that is scored", allow_missing=True
    )


def test_folders_that_hold_nothing_are_refused(ground_truths, tmp_path):
    expected = "expected a folder of mask PNGs per sequence, found"
    refuse(ground_truths, tmp_path / "nowhere", f"nowhere: {expected} no such folder")
    (tmp_path / "empty").mkdir()
    refuse(ground_truths, tmp_path / "empty", f"empty: {expected} none", allow_missing=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mask_of_another_size_is_refused(ground_truths, predictions, processes, workers):
    masks.write_mask(predictions / "one/00002.png", np.zeros([40, 80], np.uint8))
    refuse(ground_truths, predictions, r"00002.png: expected 80x48 .* found 80x40", workers=workers)
    assert processes == [1] * (workers - 1)


def test_foreign_ids_are_refused(ground_truths, predictions):
    masks.write_mask(predictions / "three/00002.png", drawn_masks.draw(2, [1, 2, 4]))
    refuse(ground_truths, predictions, r"three/00002.png: expected .*ids .1, 2, 3., found 4 ")
    masks.write_mask(predictions / "three/00002.png", drawn_masks.draw(2, [255]))
    refuse(ground_truths, predictions, "found 255 ")


def test_foreign_ids_are_refused_where_the_ground_truth_has_gaps(tmp_path):
    for folder, ids in (("truth", [3, 9]), ("out", [2])):
        drawn_masks.write_masks(
            tmp_path / folder / "a", [drawn_masks.draw(i, ids) for i in range(4)]
        )
    ground_truths = protocols.folder_ground_truths(tmp_path / "truth")
    refuse(ground_truths, tmp_path / "out", r"00001.png: expected .*ids .3, 9., found 2 ")


def test_a_late_object_may_be_predicted_before_it_appears(tmp_path):
    truth = [drawn_masks.draw(i, [3] if i < 3 else [3, 9]) for i in range(6)]
    drawn_masks.write_masks(tmp_path / "truth/a", truth)
    drawn_masks.write_masks(tmp_path / "out/a", [drawn_masks.draw(i, [3, 9]) for i in range(6)])
    ground_truths = protocols.folder_ground_truths(tmp_path / "truth")
    assert score_predictions.score_folder(ground_truths, tmp_path / "out").summary.j.mean == 1


@pytest.mark.parametrize("year", ["2016", "2017"])
def test_color_and_antialiased_masks_are_refused(tmp_path, predictions, year):
    root = drawn_videos.write_davis(tmp_path / "davis", OBJECTS, 8, year=year)
    ground_truths = protocols.dataset_ground_truths(root, f"davis_{year}")
    path = predictions / "one/00002.png"
    Image.new("RGB", (80, 48), (128, 0, 0)).save(path)
    refuse(ground_truths, predictions, "expected a mask .* found colors")
    smooth = Image.fromarray(drawn_masks.draw(2, [255])).resize((160, 96), Image.BILINEAR)
    smooth.resize((80, 48), Image.BILINEAR).save(path)
    refuse(ground_truths, predictions, "antialiased")


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    """Frames of 2 megapixels, 60 of them, would fill 240 MB if they were kept."""
    folder = tmp_path / "truth/a"
    ids = np.zeros([1080, 1920], np.uint8)
    ids[100:200, 300:400] = 1
    masks.write_mask(folder / "00000.png", ids)
    for i in range(1, 62):
        (folder / f"{i:05d}.png").symlink_to(folder / "00000.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to(folder)
    ground_truths = protocols.folder_ground_truths(tmp_path / "truth")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert score_predictions.score_folder(ground_truths, tmp_path / "out").summary.j_and_f == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


def test_a_real_folder_scores_as_the_official_tool_says(real_data):
    reference = json.loads((real_data / "reference/eval/davis2017_schoolgirls.json").read_text())
    ground_truths = protocols.dataset_ground_truths(
        real_data / "davis2017_multi", split="train", resolution="240p"
    )
    folder = real_data / "reference/eval/schoolgirls_predictions"
    (scores,) = score_predictions.score_folder(ground_truths, folder, workers=2).sequences
    region_and_contour_test.check_against({int(key): v for key, v in reference.items()}, scores)
