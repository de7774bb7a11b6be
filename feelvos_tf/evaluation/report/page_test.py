import base64
import io
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.evaluation import protocols, score_predictions
from feelvos_tf.evaluation.report import page
from feelvos_tf.testing import drawn_masks, drawn_videos

OBJECTS = {"one": [1], "three": [1, 2, 3]}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Returns a report on one folder, and one that compares it with another."""
    folder = tmp_path_factory.mktemp("report")
    ground_truths = protocols.dataset_ground_truths(
        drawn_videos.write_davis(folder / "davis", OBJECTS, 8)
    )
    good = drawn_masks.write_predictions(folder / "good", OBJECTS, error=1)
    poor = drawn_masks.write_predictions(folder / "poor", OBJECTS, error=4)
    for name in ("one/00004.png", "three/00002.png", "three/00005.png"):
        (good / name).write_bytes((poor / name).read_bytes())
    scored = [score_predictions.score_folder(ground_truths, path) for path in (good, poor)]
    page.write_report(folder / "alone.html", ground_truths, scored[0])
    page.write_report(folder / "compared.html", ground_truths, *scored)
    return folder / "alone.html", folder / "compared.html"


def test_the_report_needs_no_other_file(pages):
    for path in pages:
        text = path.read_text()
        assert "http" not in text
        assert "<link" not in text
        assert "<script" not in text
        assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', text))


def test_every_sequence_has_curves_and_its_best_and_worst_frame(pages):
    text = pages[0].read_text()
    assert text.count("<svg") == 4
    assert text.count('class="curve"') == 8
    assert text.count("<img") == 4
    worst = re.findall(r"<figcaption>worst frame (\d+)", text)
    assert worst == ["00004", "00002"]


def test_compared_predictions_have_curves_pictures_and_differences(pages):
    text = pages[1].read_text()
    assert text.count('class="compared"') == 8
    assert text.count("<img") == 8
    differences = re.findall(r'<td><em class="(\w*)">([+-][\d.]+)</em></td>', text)
    assert [kind for kind, _ in differences] == ["up", "up"]
    assert all(float(value) > 0.05 for _, value in differences)


def test_the_averages_are_those_of_the_scores(pages):
    text = pages[0].read_text()
    j_and_f = re.search(r"<b>([\d.]+)</b><span>J&amp;F mean", text)[1]
    total = re.search(r"<td>all objects</td><td>([\d.]+)</td>", text)[1]
    assert j_and_f == total


def test_a_picture_shows_prediction_and_true_outline(pages):
    data = re.findall(r"base64,([^\"]*)", pages[0].read_text())[0]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert picture.shape == (*drawn_masks.SIZE, 3)
    frame = int(re.search(r"<figcaption>best frame (\d+)", pages[0].read_text())[1])
    inside = drawn_masks.draw(frame, [1], 1) > 0
    reddish = picture[..., 0] - picture[..., 1] > 15
    assert reddish[inside].mean() > 0.6
    assert reddish[~inside].mean() < 0.05
    assert (picture.min(axis=-1) > 200).any()


def test_a_tree_without_images_and_a_measure_without_f_have_a_report(tmp_path):
    truth = [drawn_masks.draw(i, [3] if i < 3 else [3, 9]) for i in range(6)]
    drawn_masks.write_masks(tmp_path / "truth/<a>", truth)
    ground_truths = protocols.folder_ground_truths(tmp_path / "truth")
    scores = score_predictions.score_folder(ground_truths, tmp_path / "truth", measure_f=False)
    page.write_report(tmp_path / "r.html", ground_truths, scores)
    text = (tmp_path / "r.html").read_text()
    assert "F mean" not in text
    assert "<a>" not in text
    assert "&lt;a&gt;" in text
    assert text.count("<img") == 2


def test_names_of_folders_are_shown_as_text(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", OBJECTS, 8)
    ground_truths = protocols.dataset_ground_truths(root)
    scored = [
        score_predictions.score_folder(ground_truths, path)
        for path in (
            drawn_masks.write_predictions(tmp_path / name, OBJECTS) for name in ("<b>&", '"<i>')
        )
    ]
    page.write_report(tmp_path / "r.html", ground_truths, *scored)
    text = (tmp_path / "r.html").read_text()
    assert "<b>&<" not in text
    assert "<i>" not in text
    assert "<title>Scores of &lt;b&gt;&amp;</title>" in text


def test_what_was_not_scored_is_in_the_report(tmp_path):
    ground_truths = protocols.dataset_ground_truths(
        drawn_videos.write_davis(tmp_path / "davis", OBJECTS, 8)
    )
    whole = drawn_masks.write_predictions(tmp_path / "whole", OBJECTS)
    part = drawn_masks.write_predictions(tmp_path / "part", {"three": [1, 2, 3]}, frames=5)
    scored = [
        score_predictions.score_folder(ground_truths, path, allow_missing=True)
        for path in (whole, part)
    ]
    page.write_report(tmp_path / "r.html", ground_truths, *scored)
    text = (tmp_path / "r.html").read_text()
    assert "<li>part: sequence one: expected 6 predicted masks" in text
    page.write_report(tmp_path / "r.html", ground_truths, *scored[::-1])
    assert "<li>part: sequence one: expected 6 predicted masks" in (tmp_path / "r.html").read_text()


# Without these a fresh Chromium asks for a sandbox, a GPU and several hosts on the network.
_QUIET = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "disable-sync",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
)


@pytest.fixture
def browser(tmp_path):
    """Returns a function that runs headless Chromium with some arguments."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("install chromium or google-chrome to look at the report in a browser")
    quiet = [f"--{flag}" for flag in _QUIET]

    def run(page: pathlib.Path, *arguments: str) -> str:
        profile = f"--user-data-dir={tmp_path}/profile"
        command = [program, *quiet, profile, *arguments, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout

    return run


# Runs in the page: everything must be laid out and decoded, and fit the window.
_MEASURE = """<script>addEventListener("load", () => {
  const pictures = [...document.images].filter(i => i.naturalWidth > 0 && i.width > 100).length;
  const curves = [...document.querySelectorAll("svg .curve")]
    .filter(c => c.getBoundingClientRect().width > 100).length;
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.title = `pictures ${pictures} curves ${curves} wide ${wide}`;
})</script>"""


@pytest.mark.parametrize("window", ["1200,900", "500,900"])
def test_a_browser_shows_all_pictures_and_curves_within_its_window(pages, browser, window):
    page = pages[1].with_name("measured.html")
    page.write_text(pages[1].read_text().replace("</body>", _MEASURE + "</body>"))
    shown = browser(page, f"--window-size={window}", "--dump-dom")
    assert re.search("<title>(.*?)</title>", shown)[1] == "pictures 8 curves 8 wide false"


def test_a_browser_paints_the_report(pages, browser, tmp_path):
    screenshot = tmp_path / "shown.png"
    browser(pages[1], "--window-size=1200,1500", f"--screenshot={screenshot}")
    painted = np.asarray(Image.open(screenshot).convert("RGB")).astype(int)

    def count(color):
        return (abs(painted - color).max(axis=-1) < 4).sum()

    assert count((255, 255, 255)) > painted.size / 3 * 0.2
    for what, color, least in [
        ("curve of object 1", (128, 0, 0), 200),
        ("row of the best sequence", (232, 246, 236), 2000),
        ("frames", (90, 110, 90), 50_000),
    ]:
        assert count(color) > least, what
