"""J&F over seconds per frame: points, peers and the plot, without a trained model."""

import pathlib
import types

import pytest
import quality_time
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.dataset_flags import Choice
from feelvos_tf.inference import model_loading
from feelvos_tf.testing import by_color, drawn_videos

PEERS = pathlib.Path(__file__).with_name("peers.csv")


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 5], "cows": [2]})
    monkeypatch.setattr(
        model_loading,
        "choose",
        lambda path, size: types.SimpleNamespace(
            load=by_color.ByColor, inference_size=size, identity="colors"
        ),
    )
    return Choice(str(root))


def test_every_model_and_size_becomes_a_point_in_the_plot(chosen, tmp_path):
    arguments = chosen, PEERS, tmp_path / "out"
    first = quality_time.run(["bundled"], [240, None], *arguments)
    assert [row["method"] for row in first] == ["bundled at 240", "bundled at full size"]
    assert all(float(row["J&F"]) > 90 and 0 <= float(row["seconds"]) < 1 for row in first)
    assert first[0]["source"].startswith("2 sequences, ")
    again = quality_time.run(["bundled", "models/x"], [240], *arguments)
    assert again[:2] == first
    assert [row["method"] for row in again[2:]] == ["x at 240"]
    assert quality_time.read_points(tmp_path / "out/quality_time.csv") == again
    with Image.open(tmp_path / "out/quality_time.png") as picture:
        assert picture.size[0] > 500


def test_the_peers_of_the_paper_have_a_source_each():
    rows = quality_time.read_points(PEERS)
    assert {row["dataset"] for row in rows} == {"davis_2016", "davis_2017"}
    assert all("table" in row["source"] for row in rows)


@pytest.mark.parametrize("text", ["method,seconds\na,1\n", "seconds,J&F\n1,2\n", "a,b\nc,d\n"])
def test_wrong_columns_give_one_sentence(tmp_path, text):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(InputError, match="points.csv: expected the columns method, dataset, "):
        quality_time.read_points(tmp_path / "points.csv")
