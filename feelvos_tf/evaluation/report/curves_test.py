import re
from xml.etree import ElementTree

import numpy as np

from feelvos_tf.evaluation.report import curves, page
from feelvos_tf.media import masks

FRAMES = ["00000", "00001", "00002", "00003", "00004"]


def draw(*arguments):
    curve = curves.drawing(*arguments)
    return page.TEMPLATES.get_template("curves.svg").render(curve=curve)


def paths(svg, kind):
    return [path for path in ElementTree.fromstring(svg).iter("path") if path.get("class") == kind]


def points(path):
    return np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", path.get("d")), np.float64)


def test_a_curve_rises_with_the_value_and_runs_through_time():
    values = np.array([[0, 0.25, 0.5, 0.75, 1.0]])
    (path,) = paths(draw("J", FRAMES, [1], values), "curve")
    x, y = points(path).T
    np.testing.assert_allclose(np.diff(x), np.diff(x)[0], atol=0.11)
    assert np.diff(x)[0] > 0
    np.testing.assert_allclose(np.diff(y), np.diff(y)[0], atol=0.11)
    assert np.diff(y)[0] < 0


def test_a_curve_is_interrupted_where_there_is_no_value():
    values = np.array([[0.1, 0.2, np.nan, 0.4, np.nan]])
    (path,) = paths(draw("J", FRAMES, [1], values), "curve")
    assert len(points(path)) == 3
    assert path.get("d").count("M") == 2


def test_every_object_has_a_curve_in_its_color_and_a_dashed_one_to_compare():
    svg = draw("J", FRAMES, [1, 4], np.zeros([2, 5]), np.ones([2, 5]))
    for kind in ("curve", "compared"):
        assert [path.get("stroke") for path in paths(svg, kind)] == ["rgb(128,0,0)", "rgb(0,0,128)"]
    assert tuple(masks.DAVIS_PALETTE[4]) == (0, 0, 128)


def test_tooltips_show_the_values_of_each_frame():
    svg = draw("J", FRAMES, [1, 4], np.array([[0.5] * 5, [np.nan] * 4 + [0.25]]))
    titles = [title.text for title in ElementTree.fromstring(svg).iter("title")]
    assert titles[0] == "J of frame 00000: object 1: 0.500"
    assert titles[4] == "J of frame 00004: object 1: 0.500, object 4: 0.250"


def test_the_name_of_a_single_frame_starts_at_the_left_edge():
    svg = draw("J", ["00001"], [1], np.zeros([1, 1]))
    names = {text.text: text for text in ElementTree.fromstring(svg).iter("text")}
    assert names["00001"].get("text-anchor") == "start"
    assert names["00001"].get("x") == "30.0"


def test_names_are_escaped_and_few_frames_are_drawn():
    for count in range(3):
        svg = draw("J & F", ["<1>", "2"][:count], [1], np.zeros([1, count]))
        ElementTree.fromstring(svg)
