"""The page in a browser, driven by mouse and keyboard."""

from __future__ import annotations

import base64
import contextlib
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


# Whether a click on the center of an element reaches it; true for disabled elements.
IS_ON_TOP = """element => {
    if (element.matches(":disabled, [aria-disabled=true]")) return true;
    const box = element.getBoundingClientRect();
    const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return element.contains(hit);
}"""


# The contrast of every visible text with its background.
CONTRASTS = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((value) => {
        value /= 255;
        return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    }).reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const color = parse(getComputedStyle(each).backgroundColor);
            if (color.length < 4 || color[3] > 0.8) return color;
        }
        return [255, 255, 255];
    };
    const texts = [...document.querySelectorAll("body *")].filter((element) =>
        element.checkVisibility() && !element.matches(":disabled, [aria-disabled=true]")
        && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    return texts.map((element) => {
        const pair = [parse(getComputedStyle(element).color), behind(element)].map(light);
        const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        return [element.textContent.trim(), contrast];
    });
}"""


@pytest.fixture(scope="module")
def chromium():
    """Yields a headless browser."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: none is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Person:
    """A user of the page, with a browser of their own."""

    def __init__(self, chromium, address: str, **device):
        device = device or {"viewport": {"width": 1280, "height": 760}}
        self.page = chromium.new_context(**device).new_page()
        self.page.set_default_timeout(60_000)
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Returns the screen position of a pixel of the clip."""
        box = self.page.locator("#canvas").bounding_box()
        return box["x"] + x / SIZE[1] * box["width"], box["y"] + y / SIZE[0] * box["height"]

    def drag(self, *points: tuple[float, float], button: str = "left") -> None:
        """Draws on the frame and waits for the answer."""
        with self.change():
            self.draw(*points, button=button)
        self.page.wait_for_selector("#undo:enabled")

    def draw(self, *points: tuple[float, float], button: str = "left") -> None:
        """Draws on the frame; points are (x, y) in pixels of the clip."""
        places = [self.place(*point) for point in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down(button=button)
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up(button=button)

    def brush(self, *points: tuple[float, float]) -> None:
        """Paints on the frame."""
        self.page.keyboard.press("b")
        self.drag(*points)

    def change(self, *parts: str):
        """Returns a context that waits for the server's answer to a change."""
        parts = parts or ("/mask/", "/prompt/")
        return self.page.expect_response(
            lambda answer: (
                any(part in answer.url for part in parts) and answer.request.method != "GET"
            )
        )

    @contextlib.contextmanager
    def holding(self, method: str, part: str):
        """Holds back the requests that the block causes, at least one, until it ends."""
        held, pattern = [], f"**/api/{part}/**"
        self.page.route(
            pattern,
            lambda route: (
                held.append(route) if route.request.method == method else route.continue_()
            ),
        )
        yield
        while not held:
            self.page.wait_for_timeout(10)
        for route in held:
            route.continue_()
        self.page.unroute(pattern)

    def open_example(self, masked: bool = True) -> None:
        """Opens the example; its first frame has a mask of object 1 unless `masked` is false."""
        self.page.click("#example")
        self.wait_for_text("#where", f"1 / {FRAMES}")
        if not masked:
            with self.change():
                self.page.click("#clear")

    def answer(self, button: str) -> str:
        """Clicks "yes" or "no"; returns the question."""
        question = self.page.locator("#question p").text_content()
        self.page.click(f"#question [value={button}]")
        return question

    def state(self) -> dict:
        """Returns the server's state."""
        return self.page.request.get(f"{self.page.url}api/state").json()

    def go(self, frame: int) -> None:
        """Scrubs to a frame, counted from 0."""
        self.page.locator("#scrub").fill(str(frame))
        self.wait_for_text("#where", f"{frame + 1} / {FRAMES}")

    def track(self, direction: str = "both") -> None:
        """Runs to the end of the clip or the next painted frames."""
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

    def watch(self, selector: str) -> None:
        """Collects the texts that an element shows from now on in the page's `shown`."""
        self.page.evaluate(
            """selector => {
                const watched = document.querySelector(selector);
                window.shown = [];
                new MutationObserver(() => shown.push(watched.textContent))
                    .observe(watched, {childList: true});
            }""",
            selector,
        )

    def mask(self, frame: int) -> np.ndarray:
        """Returns the server's ids of a frame."""
        answer = self.page.request.get(f"{self.page.url}api/mask/{frame}")
        return np.frombuffer(answer.body(), np.uint8).reshape(SIZE)

    def download(self, name: str) -> bytes:
        """Returns the file behind a button."""
        with self.page.expect_download() as started:
            self.page.click(f"[data-download='{name}']")
        assert started.value.suggested_filename == f"bunny_{name}"
        with open(started.value.path(), "rb") as file:
            return file.read()

    def look(self, name: str) -> None:
        """Takes a screenshot if FEELVOS_SCREENSHOTS names a folder."""
        if os.environ.get("FEELVOS_SCREENSHOTS"):
            self.page.screenshot(path=f"{os.environ['FEELVOS_SCREENSHOTS']}/{name}.png")


@pytest.fixture
def person(chromium, address):
    """Yields a user who has just opened the page; leaves and closes it afterwards."""
    somebody = Person(chromium, address)
    yield somebody
    somebody.page.request.post(f"{address}/api/leave", headers={"x-feelvos": "1"})
    somebody.page.context.close()
    assert not somebody.errors


def truth(frame: int) -> np.ndarray:
    return drawn_videos.draw(frame, (1, 2), SIZE)[1]


def middle(frame: int, object_id: int) -> tuple[float, float]:
    """Returns x and y of the center of an object."""
    rows, columns = np.nonzero(truth(frame) == object_id)
    return columns.mean(), rows.mean()


def overlap(found: np.ndarray, wanted: np.ndarray) -> float:
    # The video's colors are blurred by a pixel or two around disks of 14.
    return (found & wanted).sum() / (found | wanted).sum()


def test_draw_track_correct_track_again_and_download(person, clip_folder):
    page = person.page
    page.set_input_files("#file", clip_folder / "bunny.mp4")
    person.wait_for_text("#where", f"1 / {FRAMES}")
    assert not page.is_enabled("#undo")

    # Mark object 1 with a click, in the middle of the clip.
    person.go(5)
    person.drag(middle(5, 1))
    assert overlap(person.mask(5) == 1, truth(5) == 1) > 0.55
    person.look("click")
    person.track()
    person.look("tracked")
    for frame in (0, FRAMES - 1):
        assert np.mean((person.mask(frame) == 1) != (truth(frame) == 1)) < 0.03

    # Paint object 2 in another frame, erase part of it, and undo that.
    person.go(8)
    page.click("#add")
    page.wait_for_selector("#objects li[data-id='2'][aria-current=true]")
    x, y = middle(8, 2)
    person.brush((x - 3, y), (x + 3, y))
    painted = person.mask(8)
    assert (painted == 2).sum() > 20 and (painted == 1).any()
    page.keyboard.press("e")
    person.drag((x, y), (x, y))
    assert (person.mask(8) == 2).sum() < (painted == 2).sum()
    with person.change():
        page.keyboard.press("Control+z")
    np.testing.assert_array_equal(person.mask(8), painted)

    # Rename it, and track in both directions; the frame painted first ends the run.
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
    assert person.download("objects.csv").startswith(b"frame,time,object")
    assert person.download("cutout.webm")[:4] == b"\x1a\x45\xdf\xa3"
    with zipfile.ZipFile(io.BytesIO(person.download("objects.zip"))) as archive:
        assert archive.namelist() == ["object_1.mkv", "object_2.mkv"]


@pytest.mark.parametrize("tool", ["click", "box", "scribble"])
def test_one_mark_finds_an_object(person, tool):
    person.open_example(masked=False)
    person.page.click(f"[data-tool={tool}]")
    (x, y), (rows, columns) = middle(0, 1), np.nonzero(truth(0) == 1)
    corners = (columns.min() - 2, rows.min() - 2), (columns.max() + 3, rows.max() + 3)
    person.drag(*{"click": [(x, y)], "box": corners, "scribble": [(x - 5, y), (x + 5, y)]}[tool])
    assert overlap(person.mask(0) == 1, truth(0) == 1) > 0.55
    assert person.state()["given"] == [0]
    person.look(tool)


def test_negative_marks_remove_pixels_and_undo_reverts_marks_one_by_one(person):
    page = person.page
    person.open_example(masked=False)
    person.drag(middle(0, 1))
    first = person.mask(0)
    person.drag(middle(0, 2))  # A second click, on something else.
    both = person.mask(0)
    assert both[tuple(round(each) for each in middle(0, 2)[::-1])] == 1
    for how in ("undo", "right button", "undo", "minus"):
        if how == "right button":
            person.drag(middle(0, 2), button="right")
        elif how == "minus":
            page.click("[data-sign='0']")
            person.drag(middle(0, 2))
        else:
            with person.change():
                page.click("#undo")
            np.testing.assert_array_equal(person.mask(0), first)
            continue
        assert person.mask(0)[tuple(round(each) for each in middle(0, 2)[::-1])] == 0


def test_a_stopped_run_keeps_its_masks(person):
    page = person.page
    person.open_example()
    page.click("[data-run=forward]")
    page.wait_for_selector("#stop", state="visible")
    page.click("#stop")
    page.wait_for_selector("#stop", state="hidden")
    person.wait_for_text("#status", "stopped after")
    assert not person.mask(FRAMES - 1).any()


def test_two_visitors_work_independently(person, chromium, address):
    other = Person(chromium, address)
    try:
        for each in (person, other):
            each.open_example()
        other.brush((120, 80), (140, 80))
        for each in (person, other):
            each.page.click("[data-run=forward]")
        for each in (person, other):
            each.wait_for_text("#status", f"{FRAMES - 1} frames tracked")
        assert not person.mask(0)[80, 130] and other.mask(0)[80, 130] == 1
    finally:
        other.page.request.post(f"{address}/api/leave", headers={"x-feelvos": "1"})
        other.page.context.close()


def test_an_open_page_keeps_its_files_on_the_server(person):
    person.page.clock.install()
    person.page.reload()
    person.open_example()
    with person.page.expect_response("**/api/state"):
        person.page.clock.fast_forward("29:00")


def test_the_page_shows_what_is_wrong_with_a_file(person, tmp_path, clip_folder):
    film = (clip_folder / "bunny.mp4").read_bytes()
    Image.new("RGB", (30, 20)).save(tmp_path / "frame.png")
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "cut.mp4").write_bytes(film[: len(film) // 2])
    for name, found in (
        ("text.mp4", "found a text file"),
        ("frame.png", "found a picture: choose all pictures"),
        ("cut.mp4", "cannot be decoded after frame 0"),
    ):
        person.page.set_input_files("#file", tmp_path / name)
        person.wait_for_text("#toast", found)
        assert person.page.is_visible("#empty")
    person.page.set_input_files("#file", [tmp_path / "cut.mp4", clip_folder / "bunny.mp4"])
    person.wait_for_text("#toast", "expected one video, or the frames of one as images")


def test_undo_of_a_first_stroke_removes_the_mask_and_runs_pass_the_frame(person):
    person.open_example()
    person.go(3)
    person.brush((120, 80), (130, 80))
    assert person.state()["given"] == [0, 3]
    with person.change():
        person.page.keyboard.press("Control+z")
    assert (person.state()["given"], person.state()["masked"]) == ([0], [0])
    person.go(0)
    person.track("forward")
    assert person.state()["masked"] == list(range(FRAMES))


def test_clicks_and_strokes_beside_the_frame_change_nothing(person):
    person.open_example()
    person.go(3)
    sent = []
    person.page.on("request", lambda each: sent.append(each.url.rpartition("/api/")[2]))
    person.page.keyboard.press("b")
    person.draw((80, -9), (90, -9))
    person.page.keyboard.press("c")
    person.draw((80, -9))
    person.brush((120, 80), (130, 80))
    assert [path for path in sent if path.startswith(("mask", "prompt"))] == ["mask/3?given=1"]


def test_undo_restores_a_tracked_mask_as_tracked(person):
    person.open_example()
    person.track("forward")
    person.go(5)
    before = person.mask(5)
    person.brush((120, 80), (130, 80))
    with person.change():
        person.page.keyboard.press("Control+z")
    np.testing.assert_array_equal(person.mask(5), before)
    assert person.state()["given"] == [0] and 5 in person.state()["masked"]


def test_undo_and_redo_reach_other_frames(person):
    page = person.page
    person.open_example()
    person.go(3)
    person.brush((120, 80), (130, 80))
    painted = person.mask(3)
    person.go(8)
    person.brush((60, 80), (70, 80))
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
    # A new stroke clears the redo list.
    page.wait_for_selector("#redo:enabled")
    person.brush((60, 40), (70, 40))
    page.wait_for_selector("#redo:disabled")


def test_quick_strokes_are_undone_and_redone_one_by_one(person):
    """The second one begins before the first one is stored, and ends afterwards."""
    page = person.page
    person.open_example()
    person.go(3)
    page.keyboard.press("b")
    with person.holding("PUT", "mask"):
        person.draw((120, 80), (130, 80))
        page.mouse.move(*person.place(60, 80))
        page.mouse.down()
    page.wait_for_selector("#undo:enabled")
    with person.change():
        page.mouse.up()
    for key, count in (("z", 1), ("z", 0), ("y", 1), ("y", 2)):
        with person.change():
            page.keyboard.press(f"Control+{key}")
        assert [person.mask(3)[80, x] for x in (125, 60)] == [count > 0, count > 1]
        assert person.state()["given"] == ([0, 3] if count else [0])


@pytest.mark.parametrize("when", ["playing", "key before", "key after"])
def test_a_stroke_is_stored_in_the_frame_on_which_it_began(person, when):
    page = person.page
    person.open_example()
    before = person.mask(0)
    page.keyboard.press("b")
    page.mouse.move(*person.place(120, 80))
    if when == "playing":
        page.keyboard.press("Space")
        person.wait_for_text("#where", f"3 / {FRAMES}")
        page.mouse.down()
        where = page.text_content("#where")
    elif when == "key before":
        with person.holding("GET", "mask"):
            page.keyboard.press("ArrowRight")
            page.mouse.down()
        where = f"1 / {FRAMES}"
    else:
        page.mouse.down()
        page.keyboard.press("ArrowRight")
        where = f"2 / {FRAMES}"
    frame = int(where.split()[0]) - 1 if when == "playing" else 0
    page.wait_for_timeout(300)
    assert page.text_content("#where") == where
    page.mouse.move(*person.place(140, 80))
    with person.change():
        page.mouse.up()
    assert person.state()["given"] == sorted({0, frame})
    assert (person.mask(frame)[80, 120:140] == 1).all()
    assert (person.mask(0)[before == 1] == 1).all()


def test_a_stroke_remains_visible_if_a_run_ends_before_it_is_stored(person):
    page = person.page
    person.open_example()
    page.locator("#opacity").fill("100")
    page.click("[data-run=forward]")
    page.wait_for_selector("#stop", state="visible")
    person.go(FRAMES - 1)
    page.keyboard.press("b")
    with person.change(), person.holding("PUT", "mask"):
        person.draw((20, 80), (60, 80))
        count = colors_of(person)
        with page.expect_response(f"**/mask/{FRAMES - 1}"):
            page.wait_for_selector("#stop", state="hidden")
    page.wait_for_selector("#undo:enabled")
    for frame in (0, FRAMES - 1):
        person.go(frame)
    assert colors_of(person) == count


@pytest.mark.parametrize(
    ("button", "method", "given", "total"),
    [("#clear", "DELETE", [0], None), ("[data-run=backward]", "POST", [0, 3], 2)],
)
def test_buttons_apply_to_the_frame_shown_when_they_are_pressed(
    person, button, method, given, total
):
    """Here, they wait for a stroke to be stored while the user goes to another frame."""
    page = person.page
    person.open_example()
    person.go(3)
    person.brush((120, 80), (130, 80))
    answered = page.expect_response(lambda answer: answer.request.method == method)
    with answered as answer, person.holding("PUT", "mask"):
        person.draw((60, 80), (70, 80))
        page.click(button)
        person.go(0)
    state = answer.value.json()
    assert (state["given"], state["run"].get("total")) == (given, total)


def test_clearing_a_frame_can_be_undone(person):
    person.open_example()
    before = person.mask(0)
    with person.change():
        person.page.click("#clear")
    assert person.state()["masked"] == []
    with person.change():
        person.page.click("#undo")
    np.testing.assert_array_equal(person.mask(0), before)
    assert person.state()["given"] == [0]


def test_keys_still_work_after_a_click_on_an_object(person):
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


def test_objects_can_be_renamed_and_escape_keeps_the_old_name(person):
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
    assert page.get_attribute("[data-tool=eraser]", "aria-pressed") == "false"


def test_changes_of_objects_made_during_a_click_are_all_kept(person):
    page = person.page
    person.open_example()
    with person.holding("POST", "prompt"):
        person.draw(middle(0, 1))
        page.click("#add")
        page.click("#add")
        page.click("#objects .rename")
        page.keyboard.type("hare")
        page.keyboard.press("Enter")
    person.wait_for_text("#objects .name", "hare")
    names = [each["name"] for each in person.state()["objects"].values()]
    assert names == ["hare", "object 2", "object 3"]
    assert page.get_attribute("li[data-id='3']", "aria-current") == "true"


def test_an_object_is_removed_from_all_masks_only_after_confirmation(person):
    page = person.page
    person.open_example()
    page.click("#add")
    page.wait_for_selector("#objects li[data-id='2']")
    person.brush((120, 80), (130, 80))
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


def test_masks_are_discarded_only_after_confirmation(person, clip_folder):
    page = person.page
    person.open_example()
    person.brush((120, 80), (130, 80))
    painted = person.mask(0)
    page.set_input_files("#file", clip_folder / "bunny.mp4")
    assert "1 frame)" in person.answer("no")
    page.click("#leave")
    person.look("question")
    assert "Remove" in person.answer("no")
    np.testing.assert_array_equal(person.mask(0), painted)
    page.set_input_files("#file", clip_folder / "bunny.mp4")
    with page.expect_response("**/api/clip?*"):
        person.answer("yes")
    assert person.state()["masked"] == []
    page.click("#leave")
    person.answer("yes")
    page.wait_for_selector("#empty", state="visible")
    assert person.state()["clip"] is None


def test_nothing_of_a_clip_remains_if_the_server_has_lost_it_before_the_next_one(
    person, clip_folder
):
    page = person.page
    person.open_example()
    person.brush((120, 80), (130, 80))
    page.request.post(f"{page.url}api/leave", headers={"x-feelvos": "1"})
    page.set_input_files("#file", clip_folder / "bunny.mp4")
    with page.expect_response("**/api/clip?*"):
        person.answer("yes")
    page.wait_for_selector("#undo:disabled")
    person.wait_for_text("#where", f"1 / {FRAMES}")
    assert colors_of(person) == 0


def test_a_failed_download_leaves_the_page_open(person):
    page = person.page
    person.open_example()
    page.request.post(f"{page.url}api/leave", headers={"x-feelvos": "1"})
    with page.expect_download() as started:
        page.click("[data-download='masks.zip']")
    assert started.value.failure()
    assert page.text_content("#where") == f"1 / {FRAMES}"


def test_disabled_downloads_ignore_the_keyboard(person):
    page = person.page
    person.open_example(masked=False)
    page.evaluate("addEventListener('click', (event) => { isIgnored = event.defaultPrevented; })")
    page.wait_for_selector("[data-download='masks.zip'][aria-disabled=true]")
    page.press("[data-download='masks.zip']", "Enter")
    assert page.evaluate("isIgnored")


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
    for button in page.locator("button:visible, a.button:visible, #scrub, #opacity").all():
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


def test_hints_on_a_touch_screen_name_no_mouse_button(chromium, address):
    screen = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    person = Person(chromium, address, **screen)
    person.open_example()
    for tool, word in (("scribble", "choose −"), ("hand", "two"), ("click", "Tap")):
        person.page.tap(f"[data-tool={tool}]")
        hint = person.page.text_content("#hint")
        assert word in hint and "right" not in hint and "scroll" not in hint
    person.page.context.close()


def test_pictures_become_a_clip_in_the_order_of_their_names(person, tmp_path):
    for number in (10, 2, 1):
        Image.new("RGB", (40, 30), (0, 0, 20 * number)).save(tmp_path / f"shot{number}.png")
    person.page.set_input_files("#file", sorted(tmp_path.iterdir()))
    person.wait_for_text("#where", "1 / 3")
    assert person.page.text_content("#name") == "shot1"
    blue = [
        Image.open(io.BytesIO(person.page.request.get(f"{person.page.url}api/frame/{n}").body()))
        for n in range(3)
    ]
    assert [round(each.getpixel((20, 15))[2], -1) for each in blue] == [20, 40, 200]


def test_a_dropped_file_is_loaded(person, clip_folder):
    encoded = base64.b64encode((clip_folder / "bunny.mp4").read_bytes()).decode()
    person.page.evaluate(
        """encoded => {
            const bytes = Uint8Array.from(atob(encoded), (each) => each.charCodeAt(0));
            const dropped = new DataTransfer();
            dropped.items.add(new File([bytes], "my clip.mp4"));
            document.body.dispatchEvent(
                new DragEvent("drop", {dataTransfer: dropped, bubbles: true}));
        }""",
        encoded,
    )
    person.wait_for_text("#where", f"1 / {FRAMES}")
    assert person.page.text_content("#name") == "my clip"


def test_the_wheel_zooms_at_the_pointer_and_painting_hits_what_is_shown(person):
    page = person.page
    person.open_example(masked=False)
    x, y = 120.5, 30.5
    page.mouse.move(*person.place(x, y))
    before = person.place(x, y)
    page.mouse.wheel(0, -500)
    page.wait_for_function("document.querySelector('#zoom').textContent !== '100 %'")
    # The browser rounds the position of the wheel event.
    np.testing.assert_allclose(person.place(x, y), before, atol=3)
    person.brush((x, y), (x, y))
    rows, columns = np.nonzero(person.mask(0))
    assert abs(rows.mean() + 0.5 - y) < 0.6 and abs(columns.mean() + 0.5 - x) < 0.6
    # The middle button and the hand move the frame; the mask does not change.
    painted = person.mask(0)
    for button in ("middle", "left"):
        page.keyboard.press("h")
        before = person.place(x, y)
        page.mouse.move(*before)
        page.mouse.down(button=button)
        page.mouse.move(before[0] - 30, before[1] - 10)
        page.mouse.up(button=button)
        np.testing.assert_allclose(person.place(x, y), (before[0] - 30, before[1] - 10), atol=1)
    np.testing.assert_array_equal(person.mask(0), painted)
    person.look("zoomed")
    page.click("#zoom")
    assert page.text_content("#zoom") == "100 %"


def test_keys_choose_objects_tools_sizes_and_frames(person):
    page = person.page
    person.open_example()
    page.click("#add")
    page.wait_for_selector("#objects li[data-id='2'][aria-current=true]")
    page.keyboard.press("1")
    page.wait_for_selector("#objects li[data-id='1'][aria-current=true]")
    size = float(page.input_value("#size"))
    page.keyboard.press("]")
    assert float(page.input_value("#size")) > size
    page.keyboard.press("[")
    assert float(page.input_value("#size")) == size
    for key, frame in (("End", FRAMES), ("Home", 1), ("ArrowRight", 2)):
        page.keyboard.press(key)
        person.wait_for_text("#where", f"{frame} / {FRAMES}")
    page.keyboard.press("X")
    assert page.get_attribute("[data-tool=box]", "aria-pressed") == "true"


def colors_of(person) -> int:
    """Returns how many pixels have the exact color of object 1 of the example."""
    return person.page.evaluate(
        """() => {
            const canvas = document.querySelector("#canvas");
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let count = 0;
            for (let i = 0; i < data.length; i += 4)
                count += data[i] === 255 && data[i + 1] === 107 && data[i + 2] === 74;
            return count;
        }"""
    )


def test_objects_can_be_hidden_and_their_opacity_changed(person):
    page = person.page
    person.open_example()
    outline = colors_of(person)
    assert outline
    page.locator("#opacity").fill("100")
    assert colors_of(person) > 2 * outline
    page.click("#objects .eye")
    assert colors_of(person) == 0
    page.click("#objects .eye")
    assert colors_of(person) > 2 * outline


def test_the_brush_shows_its_size(person):
    page = person.page
    person.open_example()
    page.keyboard.press("b")
    page.mouse.move(*person.place(80, 40))
    count = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
    count += ".data.filter((value, i) => i % 4 === 3 && value).length"
    small = page.locator("#over").evaluate(count)
    for _ in range(5):
        page.keyboard.press("]")
    assert page.locator("#over").evaluate(count) > 1.5 * small > 0


def test_playback_has_the_frame_rate_of_the_clip(person):
    """The clip has 10 frames per second; 1.5 seconds show 15 of them."""
    page = person.page
    person.open_example()
    person.watch("#where")
    page.keyboard.press("Space")
    page.wait_for_function("shown.length")
    page.wait_for_timeout(1500)
    page.keyboard.press("Space")
    assert 11 <= len(page.evaluate("[...new Set(shown.map((text, i) => text + i))]")) <= 18


def test_the_network_prepares_one_frame_at_a_time_and_not_during_playback_or_clicks(person):
    page, asked = person.page, []
    page.on("request", lambda request: asked.append(request.url.partition("/prepare/")[2]))

    def move() -> None:
        for x in range(5):
            page.mouse.move(*person.place(60 + x, 40))
            page.wait_for_timeout(50)

    person.open_example()
    page.keyboard.press("Space")
    asked.clear()
    move()
    page.keyboard.press("Space")
    with page.expect_response("**/prepare/*"), person.holding("POST", "prepare"):
        for frame in (1, 2, 3):
            person.go(frame)
            move()
    with page.expect_response("**/prepare/4"):
        person.go(4)
        move()
    with person.change(), person.holding("POST", "prompt"):
        person.draw(middle(4, 1))
        person.go(5)
        move()
    assert [int(each) for each in asked if each] == [1, 4]


def test_another_frame_can_be_painted_during_a_run_without_interruption(person):
    page = person.page
    person.open_example()
    page.click("[data-run=forward]")
    page.wait_for_selector("#stop", state="visible")
    person.go(FRAMES - 1)
    person.brush((20, 80), (30, 80))
    painted = person.mask(FRAMES - 1)
    page.wait_for_selector("#stop", state="hidden")
    assert page.text_content("#where") == f"{FRAMES} / {FRAMES}"
    np.testing.assert_array_equal(person.mask(FRAMES - 1), painted)
    state = person.state()
    assert state["given"] == [0, FRAMES - 1] and state["masked"] == list(range(FRAMES))


def test_a_run_shows_its_preparation_and_the_time_left(person):
    page = person.page
    person.open_example()
    person.watch("#status")
    person.track("forward")
    said = page.evaluate("shown")
    assert said[0].startswith("preparing") and any(" s left" in each for each in said)


def test_the_page_reports_a_lost_server_and_recovers(person):
    page = person.page
    person.open_example()
    page.route("**/api/**", lambda route: route.abort())
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#silence", state="visible")
    person.look("silence")
    page.unroute("**/api/**")
    page.wait_for_selector("#silence", state="hidden")
    person.wait_for_text("#where", f"2 / {FRAMES}")
    # A restarted server does not know the clip.
    page.route("**/api/**", lambda route: route.abort())
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#silence", state="visible")
    page.request.post(f"{page.url}api/leave", headers={"x-feelvos": "1"})
    page.unroute("**/api/**")
    page.wait_for_selector("#empty", state="visible")
    person.wait_for_text("#toast", "your clip and masks are gone")


def test_the_page_does_not_wait_for_a_frame_for_ever(person):
    page = person.page
    person.open_example()
    page.clock.install()
    page.route("**/api/frame/1", lambda route: None, times=1)  # Never answers.
    page.route("**/else", lambda route: None)  # Without any route, requests would be let go.
    with page.expect_request("**/api/frame/1"):
        page.keyboard.press("ArrowRight")
    page.clock.fast_forward(29_000)
    page.wait_for_timeout(200)
    assert page.is_hidden("#silence")
    with page.expect_request("**/api/state"):  # The server is asked whether it is there, and is.
        page.clock.fast_forward(2_000)
    person.wait_for_text("#where", f"2 / {FRAMES}")


def test_the_page_recovers_from_a_connection_that_is_lost_without_notice(person):
    page = person.page
    person.open_example()
    page.route("**/api/frame/**", lambda route: route.abort())
    page.route("**/api/state", lambda route: None, times=1)  # Never answers.
    page.route("**/else", lambda route: None)  # Without any route, requests would be let go.
    with page.expect_request("**/api/state"):
        page.keyboard.press("ArrowRight")
    page.unroute("**/api/frame/**")
    person.wait_for_text("#where", f"2 / {FRAMES}")
    page.wait_for_selector("#silence", state="hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_sufficient_contrast(person, scheme):
    """WCAG asks for a contrast of 4.5."""
    page = person.page
    page.emulate_media(color_scheme=scheme)
    page.wait_for_selector("#example", state="visible")
    person.look(f"empty_{scheme}")
    contrasts = page.evaluate(CONTRASTS)
    person.open_example()
    person.look(f"example_{scheme}")
    contrasts += page.evaluate(CONTRASTS)
    weak = [each for each in contrasts if each[1] < 4.5]
    assert len(contrasts) > 30 and not weak, weak
