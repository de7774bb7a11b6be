import os
import pathlib

import numpy as np
import pytest

from feelvos_tf.evaluation import region_and_contour, score_predictions, tables


def sequence(name, j, f=None):
    j = np.asarray(j, np.float64)
    frames = tuple(f"{i:05d}" for i in range(j.shape[1]))
    f = None if f is None else np.asarray(f, np.float64)
    return region_and_contour.SequenceScores(name, tuple(range(1, len(j) + 1)), frames, j, f)


def scores_of(sequences):
    return score_predictions.Scores(pathlib.Path("masks"), sequences, [])


@pytest.fixture
def scores():
    dog = sequence("dog", [[0.8, 0.4, 0.6], [0.1, 0.1, 0.1]], [[0.9, 0.9, 0.3], [0.2, 0.2, 0.2]])
    return scores_of([dog, sequence("black-swan", [[1.0, 0.9996]], [[1, 1]])])


def test_csvs_have_the_names_columns_and_rounding_of_the_official_tool(scores, tmp_path):
    paths = tables.write_csvs(scores, tmp_path, "test-dev")
    assert [path.name for path in paths] == [
        "global_results-test-dev.csv",
        "per-sequence_results-test-dev.csv",
    ]
    assert paths[0].read_text() == (
        "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n"
        "0.600,0.567,0.556,0.000,0.633,0.556,0.200\n"
    )
    assert paths[1].read_text() == (
        "Sequence,J-Mean,F-Mean\ndog_1,0.600,0.700\ndog_2,0.100,0.200\nblack-swan_1,1.000,1.000\n"
    )


def test_csvs_keep_names_that_are_not_utf_8(tmp_path):
    cafe = sequence(os.fsdecode(b"caf\xe9"), [[0.5]])
    paths = tables.write_csvs(scores_of([cafe]), tmp_path, "val")
    assert paths[1].read_bytes() == b"Sequence,J-Mean\ncaf\xe9_1,0.500\n"


def test_csvs_without_f_have_the_columns_of_j_only(tmp_path):
    scores = scores_of([sequence("cat", [[0.5, 0.7]])])
    overall, each = tables.write_csvs(scores, tmp_path, "val")
    assert overall.read_text() == "J-Mean,J-Recall,J-Decay\n0.600,0.500,-0.200\n"
    assert each.read_text() == "Sequence,J-Mean\ncat_1,0.600\n"
    assert "F" not in tables.format_table(scores)


def test_objects_without_a_value_have_no_row(scores, tmp_path):
    scores.sequences[0].j[1] = scores.sequences[0].f[1] = np.nan
    _, path = tables.write_csvs(scores, tmp_path, "val")
    assert "dog_2" not in path.read_text()


def test_table_marks_the_best_and_worst_sequence(scores):
    lines = tables.format_table(scores).splitlines()
    dog, swan, overall = lines[2], lines[3], lines[-1]
    assert dog.split()[:3] == ["dog", "2", "3"]
    values = ["0.400", "0.350", "0.333", "0.000", "0.450", "0.333", "0.300"]
    assert dog.split()[3:] == [*values, "worst"]
    assert swan.split()[:4] == ["black-swan", "1", "2", "1.000"]
    assert swan.endswith("best")
    assert overall.split()[:6] == ["all", "objects", "3", "5", "0.600", "0.567"]


def test_table_marks_nothing_if_there_is_only_one_sequence(scores):
    text = tables.format_table(scores_of(scores.sequences[:1]))
    assert "best" not in text
    assert "worst" not in text
