"""What the server takes and refuses, asked as a browser or a stranger asks."""

from __future__ import annotations

import http.client
import io
import json
import pathlib
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.demo_page.conftest import FRAMES, LIMITS, SIZE
from feelvos_tf.testing import drawn_videos


class Browser:
    """Asks with the cookie it was given."""

    def __init__(self, address: str):
        self._host = address.removeprefix("http://")
        self.cookie = ""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str):
        """Returns status and content; JSON is parsed."""
        connection = http.client.HTTPConnection(self._host, timeout=60)
        headers = {"x-feelvos": "1", "cookie": self.cookie, **headers}
        connection.request(method, f"/api/{path}", body, headers)
        response = connection.getresponse()
        content = response.read()
        self.cookie = (response.getheader("set-cookie") or self.cookie).split(";")[0]
        is_json = "json" in (response.getheader("content-type") or "")
        attached = response.getheader("content-disposition")
        return response.status, json.loads(content) if is_json and not attached else content

    def wait(self) -> dict:
        """Returns the state when the run has ended."""
        while True:
            _, state = self.ask("GET", "state")
            if not state["running"]:
                assert not state["run"]["error"], state
                return state
            time.sleep(0.05)


@pytest.fixture
def browser(address):
    """Returns a browser without a clip."""
    new = Browser(address)
    yield new
    new.ask("POST", "leave")


@pytest.fixture
def with_clip(browser):
    """Returns a browser that has taken the example."""
    status, state = browser.ask("POST", "example")
    assert status == 200 and state["clip"]["frames"] == FRAMES
    return browser


def mask_of(browser: Browser, position: int) -> np.ndarray:
    status, content = browser.ask("GET", f"mask/{position}")
    assert status == 200
    return np.frombuffer(content, np.uint8).reshape(SIZE)


def test_a_painted_object_is_followed_and_comes_back_in_every_form(with_clip):
    truth = drawn_videos.draw(4, (1, 2), SIZE)[1]
    assert with_clip.ask("PUT", "mask/4", truth.tobytes())[0] == 200
    objects = {"1": {"name": "red", "color": "#ff0000"}, "2": {"name": "<b>", "color": "#00ff00"}}
    with_clip.ask("PUT", "objects", json.dumps(objects).encode())
    status, state = with_clip.ask("POST", "run", b'{"position": 4, "direction": "both"}')
    assert status == 200 and state["running"] and state["run"]["total"] == FRAMES - 2
    state = with_clip.wait()
    assert state["masked"] == list(range(FRAMES)) and state["given"] == [0, 4]
    for position in (1, 3, FRAMES - 1):
        truth = drawn_videos.draw(position, (1, 2), SIZE)[1]
        assert np.mean(mask_of(with_clip, position) != truth) < 0.03
    _, zipped = with_clip.ask("GET", "download/masks.zip")
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        names = [f"{position:05d}.png" for position in range(FRAMES)]
        assert archive.namelist() == [*names, "objects.json"]
        assert json.loads(archive.read("objects.json"))["2"]["name"] == "<b>"
        with Image.open(io.BytesIO(archive.read("00004.png"))) as image:
            np.testing.assert_array_equal(image, drawn_videos.draw(4, (1, 2), SIZE)[1])
    _, film = with_clip.ask("GET", "download/overlay.mp4")
    assert film[4:8] == b"ftyp"
    _, text = with_clip.ask("GET", "download/masks.json")
    annotations = json.loads(text)["annotations"]
    # Object 2 was not painted in the first frame.
    assert len(annotations) == 2 * FRAMES - 1 and {"segmentation", "bbox", "area"} <= set(
        annotations[0]
    )


def test_a_run_can_be_stopped_and_nothing_is_painted_meanwhile(with_clip):
    _, state = with_clip.ask("POST", "run", b'{"position": 0}')
    assert state["running"]
    status, answer = with_clip.ask("PUT", "mask/1", bytes(SIZE[0] * SIZE[1]))
    assert (status, answer["error"]) == (400, "a run is in progress: stop it first")
    _, state = with_clip.ask("POST", "stop")
    assert not state["running"] and state["run"]["done"] < FRAMES - 1


def test_two_visitors_see_nothing_of_each_other(with_clip, address):
    other = Browser(address)
    assert other.ask("GET", "state")[1]["clip"] is None
    assert other.ask("GET", "mask/0")[0] == 400
    assert other.ask("GET", "frame/0")[0] == 400
    other.ask("POST", "example")
    other.ask("PUT", "mask/0", bytes(SIZE[0] * SIZE[1]))
    for each in (with_clip, other):
        each.ask("POST", "run", b'{"position": 0}')
    assert with_clip.wait()["run"]["done"] == FRAMES - 1
    assert mask_of(with_clip, 0).any() and not mask_of(other, 0).any()
    other.ask("POST", "leave")
    assert other.ask("GET", "state")[1]["clip"] is None


def test_there_are_no_more_visitors_than_the_limit(address):
    browsers = [Browser(address) for _ in range(LIMITS.visitors + 1)]
    assert {each.ask("GET", "state")[0] for each in browsers} == {200}
    answers = [each.ask("POST", "example") for each in browsers]
    assert [status for status, _ in answers] == [200] * LIMITS.visitors + [400]
    assert "visitors already" in answers[-1][1]["error"]
    for each in browsers:
        each.ask("POST", "leave")


def test_files_are_removed_with_their_visitor_and_with_an_earlier_clip(with_clip):
    def frames() -> list[pathlib.Path]:
        return list(pathlib.Path("/tmp").glob("feelvos_demo_*/*/clip*/00000.jpg"))

    before = len(frames())
    with_clip.ask("POST", "example")
    assert len(frames()) == before
    with_clip.ask("POST", "leave")
    assert len(frames()) == before - 1


@pytest.mark.parametrize("path", ["state", "frame/0", "download/masks.zip"])
def test_another_name_for_this_machine_is_refused(browser, path):
    status, _ = browser.ask("GET", path, Host="evil.example")
    assert status == 400


def test_what_no_page_of_ours_would_ask_is_refused(with_clip, clip_folder):
    pixels = SIZE[0] * SIZE[1]
    film = (clip_folder / "bunny.mp4").read_bytes()
    playlist = f"#EXTM3U\n#EXTINF:1,\n{clip_folder / 'bunny.mp4'}\n#EXT-X-ENDLIST\n".encode()
    for method, path, body, status, sentence in (
        ("PUT", "mask/0", bytes(pixels - 1), 400, f"expected {pixels} bytes"),
        ("PUT", "mask/0", bytes(pixels + 1), 400, f"expected {pixels} bytes"),
        ("PUT", "mask/0", b"\xff" * pixels, 400, "ids 0 to 254"),
        ("PUT", f"mask/{FRAMES}", bytes(pixels), 400, "expected a frame 0 to 11, found 12"),
        ("GET", "frame/99", b"", 400, "expected a frame"),
        ("POST", "run", b"{", 400, "expected JSON"),
        ("POST", "run", b"[" * 90_000, 400, "expected JSON"),
        ("POST", "run", b"[]", 400, "position of a frame"),
        ("POST", "run", b'{"position": 0, "direction": "up"}', 400, "expected one of both"),
        ("POST", "run", b'{"position": 1}', 400, "paint an object first"),
        ("PUT", "objects", b'{"1": {"name": "a", "color": "url(x)"}}', 400, "colors like"),
        ("PUT", "objects", b'{"0": {"name": "a", "color": "#ffffff"}}', 400, "ids 1 to 254"),
        ("PUT", "objects", b'{"1": 5}', 400, "objects with names"),
        ("PUT", "objects", b" " * 200_000, 413, "too large"),
        ("POST", "clip", b"no film", 400, "expected a video"),
        ("POST", "clip", playlist, 400, "expected a video"),
        ("POST", "clip", b"ffconcat version 1.0\nfile bunny.mp4\n", 400, "expected a video"),
        ("POST", "clip", film[: len(film) // 2], 400, ""),
        ("POST", "clip", bytes(LIMITS.upload_bytes + 1), 413, "larger than 1 MB"),
        ("GET", "download/secret", b"", 404, "no such download"),
    ):
        found, answer = with_clip.ask(method, path, body)
        assert found == status and sentence in answer["error"], (method, path, answer)
        assert "/tmp" not in answer["error"]
    assert with_clip.ask("GET", "state")[1]["clip"]["frames"] == FRAMES


def test_a_page_of_another_site_cannot_send_anything(with_clip):
    connection = http.client.HTTPConnection(with_clip._host, timeout=60)
    connection.request("POST", "/api/stop", b"", {"cookie": with_clip.cookie})
    assert connection.getresponse().status == 403


def test_an_uploaded_clip_replaces_the_one_before(with_clip, clip_folder):
    status, state = with_clip.ask("POST", "clip", (clip_folder / "bunny.mp4").read_bytes())
    assert status == 200 and state["clip"]["frames"] == FRAMES
    assert state["masked"] == [] and state["clip"]["key"] == 2
