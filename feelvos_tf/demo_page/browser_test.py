"""The page in a browser, used with mouse and keyboard as a person does."""

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


# Whether a click on the middle of an element reaches it, unless it is disabled.
IS_ON_TOP = """element => {
    if (element.matches(":disabled, [aria-disabled=true]")) return true;
    const box = element.getBoundingClientRect();
    const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return element.contains(hit);
}"""


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
        with self.change():
            self.page.mouse.up()

    def change(self, part: str = "/mask/"):
        """Returns a context that waits for the server's answer to a change."""
        return self.page.expect_response(
            lambda answer: part in answer.url and answer.request.method in ("PUT", "DELETE")
        )

    def open_example(self) -> None:
        """Opens the example, whose first frame shows object 1."""
        self.page.click("#example")
        self.wait_for_text("#where", f"1 / {FRAMES}")

    def answer(self, button: str) -> str:
        """Clicks on "yes" or "no", and returns the question."""
        question = self.page.locator("#question p").text_content()
        self.page.click(f"#question [value={button}]")
        return question

    def state(self) -> dict:
        """Returns the state that the server has."""
        return self.page.request.get(f"{self.page.url}api/state").json()

    def go(self, frame: int) -> None:
        """Scrubs to a frame, counted from 0."""
        self.page.locator("#scrub").fill(str(frame))
        self.wait_for_text("#where", f"{frame + 1} / {FRAMES}")

    def track(self, direction: str = "both") -> None:
        """Runs to the end."""
        self.page.click(f"[data-run={direction}]")
        self.page.wait_for_selector("#stop", state="visible")
        self.page.wait_for_selector("#stop", state="hidden")
        self.wait_for_text("#status", "frames tracked")

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


def test_draw_track_correct_track_again_and_download(person, clip_folder):
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
    person.track()
    person.look("tracked")
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
    with person.change():
        page.keyboard.press("Control+z")
    np.testing.assert_array_equal(person.mask(8), painted)

    # A name, and both directions from the corrected frame; the frame painted first ends the run.
    page.click("#objects li[data-id='2'] .rename")
    page.keyboard.type("blue one")
    with person.change("/objects"):
        page.keyboard.press("Enter")
    person.track()
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
    person.open_example()
    with person.change():
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
            each.open_example()
        other.drag((120, 80), (140, 80))
        for each in (person, other):
            each.page.click("[data-run=forward]")
        for each in (person, other):
            each.wait_for_text("#status", f"{FRAMES - 1} frames tracked")
        assert not person.mask(0)[80, 130] and other.mask(0)[80, 130] == 1
    finally:
        other.page.request.post(f"{address}/api/leave", headers={"x-feelvos": "1"})
        other.page.context.close()


def test_what_is_wrong_with_a_file_is_shown(person, tmp_path):
    (tmp_path / "text.mp4").write_text("no film")
    person.page.set_input_files("#file", tmp_path / "text.mp4")
    person.wait_for_text("#toast", "expected a video (mp4")
    assert person.page.is_visible("#empty")


def test_undo_takes_a_painted_frame_back_to_no_mask_and_runs_pass_it(person):
    person.open_example()
    person.go(3)
    person.drag((120, 80), (130, 80))
    assert person.state()["given"] == [0, 3]
    with person.change():
        person.page.keyboard.press("Control+z")
    assert (person.state()["given"], person.state()["masked"]) == ([0], [0])
    person.go(0)
    person.track("forward")
    assert person.state()["masked"] == list(range(FRAMES))


def test_undo_brings_back_the_result_of_a_run_as_such(person):
    person.open_example()
    person.track("forward")
    person.go(5)
    before = person.mask(5)
    person.drag((120, 80), (130, 80))
    with person.change():
        person.page.keyboard.press("Control+z")
    np.testing.assert_array_equal(person.mask(5), before)
    assert person.state()["given"] == [0] and 5 in person.state()["masked"]


def test_undo_and_redo_reach_frames_that_were_left(person):
    page = person.page
    person.open_example()
    person.go(3)
    person.drag((120, 80), (130, 80))
    painted = person.mask(3)
    person.go(8)
    person.drag((60, 80), (70, 80))
    assert not page.is_enabled("#redo")
    for frame in (8, 3):
        with person.change():
            page.click("#undo")
        person.wait_for_text("#where", f"{frame + 1} / {FRAMES}")
        assert not person.mask(frame).any()
    page.wait_for_selector("#undo:disabled")
    with person.change():
        page.keyboard.press("Control+Shift+Z")
    np.testing.assert_array_equal(person.mask(3), painted)
    assert person.state()["given"] == [0, 3]
    # A new stroke ends what could be done again.
    page.wait_for_selector("#redo:enabled")
    person.drag((60, 40), (70, 40))
    page.wait_for_selector("#redo:disabled")


def test_a_clear_can_be_undone(person):
    person.open_example()
    before = person.mask(0)
    with person.change():
        person.page.click("#clear")
    assert person.state()["masked"] == []
    with person.change():
        person.page.click("#undo")
    np.testing.assert_array_equal(person.mask(0), before)
    assert person.state()["given"] == [0]


def test_a_clicked_object_leaves_the_keyboard_to_the_page(person):
    page = person.page
    person.open_example()
    page.click("#objects .name")
    page.keyboard.press("E")
    page.keyboard.press("ArrowRight")
    person.wait_for_text("#where", f"2 / {FRAMES}")
    page.keyboard.press("Space")
    person.wait_for_text("#where", f"4 / {FRAMES}")
    page.keyboard.press("Space")
    assert page.get_attribute("[data-tool=eraser]", "aria-pressed") == "true"
    assert page.text_content("#objects .name") == "rabbit"
    assert person.state()["objects"]["1"]["name"] == "rabbit"


def test_a_name_is_changed_on_demand_and_escape_keeps_the_old_one(person):
    page = person.page
    person.open_example()
    page.dblclick("#objects .name")
    page.keyboard.type("hare b")
    page.keyboard.press("Escape")
    assert page.text_content("#objects .name") == "rabbit"
    page.click("#objects .rename")
    page.keyboard.type("hare e")
    with person.change("/objects"):
        page.keyboard.press("Enter")
    assert person.state()["objects"]["1"]["name"] == "hare e"
    assert page.get_attribute("[data-tool=brush]", "aria-pressed") == "true"


def test_an_object_is_removed_from_all_masks_when_the_question_is_answered(person):
    page = person.page
    person.open_example()
    page.click("#add")
    page.wait_for_selector("#objects li[data-id='2']")
    person.drag((120, 80), (130, 80))
    page.click("li[data-id='2'] .remove")
    assert "object 2" in person.answer("no")
    assert (person.mask(0) == 2).any()
    page.click("li[data-id='2'] .remove")
    with person.change("/objects/2"):
        person.answer("yes")
    page.wait_for_selector("li[data-id='2']", state="detached")
    assert set(np.unique(person.mask(0))) == {0, 1}
    assert page.get_attribute("li[data-id='1']", "aria-current") == "true"
    page.wait_for_selector("#undo:disabled")


def test_masks_are_discarded_only_when_the_question_is_answered(person, clip_folder):
    page = person.page
    person.open_example()
    person.drag((120, 80), (130, 80))
    painted = person.mask(0)
    page.set_input_files("#file", clip_folder / "bunny.mp4")
    assert "1 frame)" in person.answer("no")
    page.click("#example")
    person.answer("no")
    page.click("#leave")
    person.look("question")
    assert "Remove" in person.answer("no")
    np.testing.assert_array_equal(person.mask(0), painted)
    page.set_input_files("#file", clip_folder / "bunny.mp4")
    with page.expect_response("**/api/clip"):
        person.answer("yes")
    assert person.state()["masked"] == []
    page.click("#leave")
    person.answer("yes")
    page.wait_for_selector("#empty", state="visible")
    assert person.state()["clip"] is None


def test_keys_and_enter_reach_every_button(person):
    """Enter on "Choose a clip" opens the file dialog; Space on a focused button presses it."""
    page = person.page
    page.wait_for_selector("#example", state="visible")  # The page is ready.
    with page.expect_file_chooser():
        page.press("#choose", "Enter")
    person.open_example()
    page.focus("[data-tool=box]")
    page.keyboard.press("Space")
    assert page.get_attribute("[data-tool=box]", "aria-pressed") == "true"
    assert person.page.text_content("#where") == f"1 / {FRAMES}"


@pytest.mark.parametrize("size", [(390, 844), (844, 390)], ids=["upright", "on its side"])
def test_everything_can_be_reached_on_a_phone(person, size):
    page = person.page
    page.set_viewport_size({"width": size[0], "height": size[1]})
    person.open_example()
    person.look(f"phone_{size[0]}")
    for button in page.locator("button:visible, a.button:visible, #scrub, #size").all():
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] < size[0] + 1, button.text_content()
        assert box["y"] >= 0 and box["y"] + box["height"] < size[1] + 1, button.text_content()
        assert button.evaluate(IS_ON_TOP), button.text_content()
    # The page itself does not scroll, only its columns do.
    root = "document.documentElement"
    whole = page.evaluate(f"[{root}.scrollWidth, {root}.scrollHeight]")
    assert whole[0] <= size[0] and whole[1] <= size[1]
    canvas = page.locator("#canvas").bounding_box()
    assert canvas["width"] >= 0.4 * size[0]
