"""The page in a browser: a mask is drawn, followed, corrected, followed again and downloaded."""

from __future__ import annotations

import io
import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.demo_page.conftest import FRAMES, SIZE
from feelvos_tf.testing import drawn_videos

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.fixture(scope="module")
def chromium():
    """Yields a browser without a window."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: none is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Person:
    """Somebody in front of the page, with a browser of their own."""

    def __init__(self, chromium, address: str):
        self.page = chromium.new_context(viewport={"width": 1280, "height": 760}).new_page()
        self.page.set_default_timeout(60_000)
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)

    def drag(self, *points: tuple[float, float]) -> None:
        """Draws on the frame; points are (x, y) of the clip's pixels."""
        box = self.page.locator("#canvas").bounding_box()
        places = [
            (box["x"] + x / SIZE[1] * box["width"], box["y"] + y / SIZE[0] * box["height"])
            for x, y in points
        ]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        with self.page.expect_response(
            lambda answer: "/mask/" in answer.url and answer.request.method == "PUT"
        ):
            self.page.mouse.up()

    def go(self, frame: int) -> None:
        """Scrubs to a frame, counted from 0."""
        self.page.locator("#scrub").fill(str(frame))
        self.wait_for_text("#where", f"{frame + 1} / {FRAMES}")

    def follow(self, direction: str = "both") -> None:
        """Runs to the end."""
        self.page.click(f"[data-run={direction}]")
        self.page.wait_for_selector("#stop", state="visible")
        self.page.wait_for_selector("#stop", state="hidden")
        self.wait_for_text("#status", "frames followed")

    def wait_for_text(self, selector: str, text: str) -> None:
        """Waits until an element shows a text."""
        self.page.wait_for_function(
            "([selector, text]) => document.querySelector(selector).textContent.includes(text)",
            arg=[selector, text],
        )

    def mask(self, frame: int) -> np.ndarray:
        """Returns the ids that the server has."""
        answer = self.page.request.get(f"{self.page.url}api/mask/{frame}")
        return np.frombuffer(answer.body(), np.uint8).reshape(SIZE)

    def download(self, name: str) -> bytes:
        """Returns the file behind a button."""
        with self.page.expect_download() as started:
            self.page.click(f"[data-download='{name}']")
        assert started.value.suggested_filename == name
        with open(started.value.path(), "rb") as file:
            return file.read()

    def look(self, name: str) -> None:
        """Takes a picture of the page for people, where FEELVOS_SCREENSHOTS names a folder."""
        if os.environ.get("FEELVOS_SCREENSHOTS"):
            self.page.screenshot(path=f"{os.environ['FEELVOS_SCREENSHOTS']}/{name}.png")


@pytest.fixture
def person(chromium, address):
    """Yields somebody who has just opened the page; leaves and closes it afterwards."""
    somebody = Person(chromium, address)
    yield somebody
    somebody.page.request.post(f"{address}/api/leave", headers={"x-feelvos": "1"})
    somebody.page.context.close()
    assert not somebody.errors


def truth(frame: int) -> np.ndarray:
    return drawn_videos.draw(frame, (1, 2), SIZE)[1]


def test_draw_follow_correct_follow_again_and_download(person, clip_folder):
    page = person.page
    page.set_input_files("#file", clip_folder / "bunny.mp4")
    person.wait_for_text("#where", f"1 / {FRAMES}")
    assert not page.is_enabled("#undo")

    # Object 1 by a box, in the middle of the clip.
    person.go(5)
    page.click("[data-tool=box]")
    rows, columns = np.nonzero(truth(5) == 1)
    person.drag((columns.min() - 3, rows.min() - 3), (columns.max() + 4, rows.max() + 4))
    found, wanted = person.mask(5) == 1, truth(5) == 1
    # The video's colors are blurred by a pixel or two around disks of 14.
    assert (found & wanted).sum() > 0.55 * (found | wanted).sum()
    person.look("box")
    person.follow()
    person.look("followed")
    for frame in (0, FRAMES - 1):
        assert np.mean((person.mask(frame) == 1) != (truth(frame) == 1)) < 0.03

    # Object 2 by a brush in another frame, some of it erased, and taken back.
    person.go(8)
    page.click("#add")
    page.keyboard.press("b")
    rows, columns = np.nonzero(truth(8) == 2)
    middle = columns.mean(), rows.mean()
    person.drag((middle[0] - 3, middle[1]), (middle[0] + 3, middle[1]))
    painted = person.mask(8)
    assert (painted == 2).sum() > 20 and (painted == 1).any()
    page.keyboard.press("e")
    person.drag(middle, middle)
    assert (person.mask(8) == 2).sum() < (painted == 2).sum()
    with page.expect_response(lambda answer: answer.request.method == "PUT"):
        page.keyboard.press("Control+z")
    np.testing.assert_array_equal(person.mask(8), painted)

    # A name, and both ways from the corrected frame, which ends at the frame painted first.
    name = page.locator("#objects li[data-id='2'] input[type=text]")
    name.fill("blue one")
    name.press("Enter")
    person.follow()
    person.look("corrected")
    assert [(person.mask(frame) == 2).any() for frame in (5, 6, 7, 9, 11)] == [0, 1, 1, 1, 1]

    with zipfile.ZipFile(io.BytesIO(person.download("masks.zip"))) as archive:
        assert "blue one" in archive.read("objects.json").decode()
        with Image.open(io.BytesIO(archive.read("00008.png"))) as image:
            np.testing.assert_array_equal(image, painted)
    assert person.download("overlay.mp4")[4:8] == b"ftyp"
    assert b"segmentation" in person.download("masks.json")


def test_a_scribble_finds_the_outline_and_a_run_is_stopped_with_what_it_has(person):
    page = person.page
    page.click("#example")
    person.wait_for_text("#where", f"1 / {FRAMES}")
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        page.click("#clear")
    assert not person.mask(0).any()
    page.click("[data-tool=scribble]")
    rows, columns = np.nonzero(truth(0) == 1)
    person.drag((columns.min() + 2, rows.mean()), (columns.max() - 2, rows.mean() + 1))
    found, wanted = person.mask(0) == 1, truth(0) == 1
    # The video's colors are blurred by a pixel or two around disks of 14.
    assert (found & wanted).sum() > 0.55 * (found | wanted).sum()
    page.click("[data-run=forward]")
    page.wait_for_selector("#stop", state="visible")
    page.click("#stop")
    page.wait_for_selector("#stop", state="hidden")
    person.wait_for_text("#status", "stopped after")
    assert not person.mask(FRAMES - 1).any()


def test_two_visitors_at_once_work_on_their_own(person, chromium, address):
    other = Person(chromium, address)
    try:
        for each in (person, other):
            each.page.click("#example")
            each.wait_for_text("#where", f"1 / {FRAMES}")
        other.drag((120, 80), (140, 80))
        for each in (person, other):
            each.page.click("[data-run=forward]")
        for each in (person, other):
            each.wait_for_text("#status", f"{FRAMES - 1} frames followed")
        assert not person.mask(0)[80, 130] and other.mask(0)[80, 130] == 1
    finally:
        other.page.request.post(f"{address}/api/leave", headers={"x-feelvos": "1"})
        other.page.context.close()


def test_what_is_wrong_with_a_file_is_shown(person, tmp_path):
    (tmp_path / "text.mp4").write_text("no film")
    person.page.set_input_files("#file", tmp_path / "text.mp4")
    person.wait_for_text("#toast", "expected a video (mp4")
    assert person.page.is_visible("#empty")
