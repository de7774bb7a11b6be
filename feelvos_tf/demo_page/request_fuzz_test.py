"""Valid and invalid requests in any order, compared with a model of the page's state.

No request causes a server error, invalid requests change nothing, and after valid ones the page's
state is that of the model.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from feelvos_tf.demo_page import conftest, propagation
from feelvos_tf.demo_page.conftest import FRAMES, LIMITS, SIZE
from feelvos_tf.demo_page.server_test import Browser, mask_of
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media import masks
from feelvos_tf.testing import color_model
from feelvos_tf.testing.generated import cases, run

st = pytest.importorskip("hypothesis", reason="hypothesis is not installed").strategies
MAX_OBJECTS = 4
PIXELS = SIZE[0] * SIZE[1]
REFUSED = range(400, 500)
NO_POSITIONS = (FRAMES, 10**9, 10**40, -1, "x", "1.0", "%00", "0%2F..%2F1", "%D9%A1")
# JSON values of wrong types.
JUNK = (None, True, "", "1", -1, 0.5, 1e300, 10**30, [], [[]], {}, {"a": 1}, "\ud800", "\0")


class Page:
    """The state that the page is expected to have.

    Attributes:
      masks: position -> ids.
      given: positions of the painted frames -> the ids painted there.
      objects: id -> name and color.
    """

    def __init__(self, browser: Browser):
        self.browser = browser
        status, state = browser.ask("POST", "example")
        assert status == 200
        self.masks = {0: mask_of(browser, 0)}
        self.given = {0: [1]}
        self.objects = state["objects"]

    def check(self) -> None:
        """Compares the whole state with the model."""
        state = self.browser.wait()
        assert state["masked"] == sorted(self.masks) and state["given"] == sorted(self.given)
        assert state["objects"] == self.objects
        for position in range(FRAMES):
            expected = self.masks.get(position, np.zeros(SIZE, np.uint8))
            np.testing.assert_array_equal(mask_of(self.browser, position), expected)

    def accepted(self, method: str, path: str, body: bytes = b"") -> None:
        """Sends a valid request."""
        status, answer = self.browser.ask(method, path, body)
        assert status == 200, (method, path, body[:200], answer)

    def refused(self, method: str, path: str, body: bytes | int = b"") -> None:
        """Sends an invalid request."""
        body = bytes(body)
        status, answer = self.browser.ask(method, path, body)
        assert status in REFUSED, (method, path, body[:200], status, answer)
        if isinstance(answer, dict):
            assert answer["error"] and "/tmp" not in answer["error"]

    def changed(self, draw) -> None:
        """Sends one valid request and applies it to the model."""
        getattr(
            self, draw(st.sampled_from(["paint", "forget", "name", "remove", "run", "prompt"]))
        )(draw)

    def paint(self, draw) -> None:
        position, mask = draw(positions()), draw(drawings())
        is_given = draw(st.booleans())
        given = {**self.given, position: masks.object_ids(mask)}
        if not is_given:
            del given[position]
        request = ("PUT", f"mask/{position}?given={is_given:d}", mask.tobytes())
        if len(set().union(*given.values())) > MAX_OBJECTS:
            self.refused(*request)
            return
        self.accepted(*request)
        self.masks[position], self.given = mask, given

    def forget(self, draw) -> None:
        position = draw(positions())
        self.accepted("DELETE", f"mask/{position}")
        self.masks.pop(position, None)
        self.given.pop(position, None)

    def name(self, draw) -> None:
        names = st.text(st.characters(codec="utf-8"), max_size=50)
        colors = st.from_regex("#[0-9a-fA-F]{6}", fullmatch=True)
        described = st.fixed_dictionaries({"name": names, "color": colors})
        objects = draw(st.dictionaries(st.integers(1, 254), described, max_size=MAX_OBJECTS))
        self.accepted("PUT", "objects", json.dumps(objects).encode())
        self.objects = {
            str(key): {**o, "name": "".join(filter(str.isprintable, o["name"][:40]))}
            for key, o in objects.items()
        }

    def remove(self, draw) -> None:
        removed = draw(st.integers(0, 300))
        if not 0 < removed < 255:  # The background and void are not objects.
            self.refused("DELETE", f"objects/{removed}")
            return
        self.accepted("DELETE", f"objects/{removed}")
        self.objects.pop(str(removed), None)
        for position, mask in list(self.masks.items()):
            if removed not in mask:
                continue
            rest = np.where(mask == removed, 0, mask).astype(np.uint8)
            if rest.any():
                self.masks[position] = rest
                if position in self.given:
                    self.given[position] = masks.object_ids(rest)
            else:
                del self.masks[position]
                self.given.pop(position, None)

    def run(self, draw) -> None:
        position = draw(positions())
        direction = draw(st.sampled_from(propagation.DIRECTIONS))
        request = json.dumps({"position": position, "direction": direction}).encode()
        if not self.masks.get(position, np.zeros(1)).any():
            self.refused("POST", "run", request)
            return
        self.accepted("POST", "run", request)
        self.browser.wait()
        self.given[position] = masks.object_ids(self.masks[position])
        # Written independently of the program: all frames up to the next painted one.
        known = {0, *(i for ids in self.given.values() for i in ids)}
        for way, step in (("forward", 1), ("backward", -1)):
            if direction in (way, "both"):
                frame = position + step
                while 0 <= frame < FRAMES and frame not in self.given:
                    self.masks[frame] = mask_of(self.browser, frame)
                    assert set(np.unique(self.masks[frame])) <= known
                    frame += step

    def prompt(self, draw) -> None:
        position, object_id = draw(positions()), draw(st.integers(1, 254))
        before = self.masks.get(position, np.zeros(SIZE, np.uint8))
        points = st.tuples(st.floats(0, SIZE[1] - 1), st.floats(0, SIZE[0] - 1))
        marks = {"object_id": object_id, "points": draw(st.lists(points, min_size=1, max_size=3))}
        query = draw(st.sampled_from(["", "?corrects=1"]))
        status, _ = self.browser.ask(
            "POST", f"prompt/{position}{query}", json.dumps(marks).encode()
        )
        assert status == 200 or status in REFUSED
        if status == 200:
            found = mask_of(self.browser, position)
            others = (before != 0) & (before != object_id)
            np.testing.assert_array_equal(found[others], before[others])
            assert set(np.unique(found[~others])) <= {0, object_id}
            self.masks[position], self.given[position] = found, masks.object_ids(found)


def positions():
    return st.integers(0, FRAMES - 1)


@st.composite
def drawings(draw):
    """Draws a mask of up to three rectangles."""
    mask = np.zeros(SIZE, np.uint8)
    for _ in range(draw(st.integers(0, 3))):
        top, left = draw(st.integers(0, SIZE[0] - 8)), draw(st.integers(0, SIZE[1] - 8))
        mask[top : top + 30, left : left + 40] = draw(st.sampled_from([1, 2, 3, 9, 254]))
    return mask


@st.composite
def nonsense(draw):
    """Draws an invalid request: method, path and body, or the body's number of zeros."""
    good, bad = draw(positions()), draw(st.sampled_from(NO_POSITIONS))
    junk = draw(st.sampled_from(JUNK))
    noise = draw(st.binary(max_size=40))
    marks = {"object_id": 1, "points": [[5, 5]], "labels": [1]}
    wrong_mark = draw(
        st.sampled_from(
            [
                {**marks, "object_id": junk},
                {**marks, "points": draw(st.sampled_from([[[5]], [["x", 1]], [[1e9, 1]], 5]))},
                {**marks, "points": [[float("nan"), 5]]},
                {**marks, "labels": draw(st.sampled_from([[2], [1, 1], ["a"], [0]]))},
                {**marks, "box": draw(st.sampled_from([[1, 2, 3], [9, 9, 2, 2], "box", {}]))},
                {**marks, "further": junk},
            ]
        )
    )
    described = {"name": "a", "color": "#ffffff"}
    wrong_id = draw(st.sampled_from(["0", "255", "01", " 1", "1_0", "1.0", "-1", "١", "x", ""]))
    wrong_object = draw(
        st.sampled_from(
            [
                {"name": "a"},
                {**described, "name": draw(st.sampled_from([None, True, 1, [], {}]))},
                {"name": "a", "color": junk},
                {"name": "a", "color": "#ff00001"},
                {"name": "a", "color": "red;}"},
                junk,
            ]
        )
    )
    return draw(
        st.sampled_from(
            [
                ("PUT", f"mask/{bad}", PIXELS),
                ("DELETE", f"mask/{bad}", b""),
                ("GET", f"mask/{bad}", b""),
                ("GET", f"frame/{bad}", b""),
                ("POST", f"prepare/{bad}", b""),
                ("PUT", f"mask/{good}", noise),
                ("PUT", f"mask/{good}", PIXELS - 1),
                ("PUT", f"mask/{good}", PIXELS + 1),
                ("POST", f"prompt/{bad}", json.dumps(marks).encode()),
                ("POST", f"prompt/{good}", json.dumps(wrong_mark).encode()),
                ("POST", f"prompt/{good}", noise),
                ("PUT", "objects", json.dumps({"1": wrong_object}).encode()),
                ("PUT", "objects", json.dumps({wrong_id: described}).encode()),
                ("PUT", "objects", b"{"),
                ("PUT", "objects", noise),
                ("DELETE", f"objects/{draw(st.sampled_from(['x', '-1', '%00']))}", b""),
                ("POST", "run", json.dumps({"position": bad}).encode()),
                ("POST", "run", json.dumps({"position": junk}).encode()),
                ("POST", "run", json.dumps({"position": 0, "direction": junk}).encode()),
                ("POST", "run", noise),
                ("POST", "clip", noise),
                ("POST", "clip?sizes=3,4", noise),
                (
                    "POST",
                    "clip?sizes=" + draw(st.sampled_from(["x", "1", "-1,2", "9" * 40])),
                    noise,
                ),
                ("GET", "download/" + draw(st.sampled_from(["x", "..%2f", "masks.zip%00"])), b""),
                ("PATCH", f"mask/{good}", noise),
                ("GET", "run", b""),
                ("POST", "no/such/thing", noise),
            ]
        )
    )


@pytest.fixture(scope="module")
def quick_address(clip_folder):
    predictor = VideoPredictor(color_model.ColorModel())
    limits = LIMITS._replace(objects=MAX_OBJECTS)
    with conftest.serving(predictor, clip_folder, limits) as where:
        yield where


@cases(40, 1000)
def test_valid_requests_match_the_model_and_invalid_ones_change_nothing(quick_address, count):
    browser = Browser(quick_address)

    def check(data):
        page = Page(browser)
        for _ in range(data.draw(st.integers(1, 6))):
            if data.draw(st.booleans()):
                page.changed(data.draw)
            else:
                page.refused(*data.draw(nonsense()))
            page.check()

    run(check, st.data(), count)
    browser.ask("POST", "leave")
