"""What the server accepts and refuses, from the page and from strangers."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import errno
import http.client
import io
import json
import os
import pathlib
import socket
import tempfile
import threading
import time
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from feelvos_tf import demo
from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page.conftest import FRAMES, LIMITS, SIZE, serving
from feelvos_tf.demo_page.visitors import Visitor
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media import points, video, video_writing
from feelvos_tf.testing import color_model, drawn_videos

SILENT_SECONDS = 2.0


class Browser:
    """Sends requests with the cookie it was given."""

    def __init__(self, address: str):
        self._host = address.removeprefix("http://")
        self.cookie = ""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str):
        """Returns status and content; JSON is parsed unless it is a download."""
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
        """Waits for the run to end; returns the state."""
        while True:
            _, state = self.ask("GET", "state")
            if not state["running"]:
                assert not state["run"].get("error"), state
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
    """Returns a browser that has opened the example."""
    status, state = browser.ask("POST", "example")
    assert status == 200 and state["clip"]["frames"] == FRAMES
    return browser


def mask_of(browser: Browser, position: int) -> np.ndarray:
    status, content = browser.ask("GET", f"mask/{position}")
    assert status == 200
    return np.frombuffer(content, np.uint8).reshape(SIZE)


def test_a_painted_object_is_tracked_and_can_be_downloaded(with_clip):
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


def test_frames_painted_during_a_run_are_kept_and_runs_can_be_stopped(with_clip, blocked_network):
    _, state = with_clip.ask("POST", "run", b'{"position": 0}')
    assert state["running"] and state["run"]["seconds_left"] is None
    painted = np.full(SIZE, 5, np.uint8)
    assert with_clip.ask("PUT", "mask/2", painted.tobytes())[0] == 200
    blocked_network.set()
    state = with_clip.wait()
    assert state["given"] == [0, 2] and state["run"]["done"] == FRAMES - 1
    assert state["run"]["seconds_left"] == 0
    np.testing.assert_array_equal(mask_of(with_clip, 2), painted)
    assert (mask_of(with_clip, 1) == 1).any() and (mask_of(with_clip, 3) == 1).any()
    with_clip.ask("POST", "run", b'{"position": 0}')
    _, state = with_clip.ask("POST", "stop")
    assert not state["running"] and state["run"]["done"] < FRAMES - 1


def marked(browser: Browser, position: int, query: str = "", **marks) -> tuple:
    """Returns the server's answer to marks on object 1: status and content."""
    body = json.dumps({"object_id": 1, **marks}).encode()
    return browser.ask("POST", f"prompt/{position}{query}", body)


def test_clicks_and_boxes_become_masks_and_leave_other_objects_alone(with_clip):
    truth = drawn_videos.draw(4, (1, 2), SIZE)[1]
    with_clip.ask("PUT", "mask/4", np.where(truth == 2, truth, 0).tobytes())
    rows, columns = np.nonzero(truth == 1)
    middle = [columns.mean(), rows.mean()]
    assert with_clip.ask("POST", "prepare/4")[0] == 200
    status, state = marked(with_clip, 4, points=[middle], labels=[1])
    assert status == 200 and state["given"] == [0, 4]
    assert np.mean(mask_of(with_clip, 4) != truth) < 0.01
    box = [columns.min() - 2, rows.min() - 2, columns.max() + 2, rows.max() + 2]
    marked(with_clip, 4, box=list(map(float, box)))
    assert np.mean(mask_of(with_clip, 4) != truth) < 0.01
    # A correction keeps unmarked regions; otherwise, the mask follows from the marks alone.
    before = np.where(truth == 2, 2, 0).astype(np.uint8)
    before[80:, 120:] = 1
    for query, is_kept in (("?corrects=1", True), ("", False)):
        with_clip.ask("PUT", "mask/4", before.tobytes())
        marked(with_clip, 4, query, points=[middle])
        found = mask_of(with_clip, 4)
        assert found[80:, 120:].all() == is_kept and (found == truth)[:60].mean() > 0.99


@pytest.mark.parametrize(
    ("marks", "sentence"),
    [
        ({"points": [[500, 3]]}, "points inside an image of 160x96"),
        ({"points": []}, "a point on the object, or a box"),
        ({"points": [[5, 3]], "labels": [0]}, "a point on the object, or a box"),
        ({"points": [[5, 3]], "labels": [2]}, "labels of 1"),
        ({"object_id": 255, "points": [[5, 3]]}, "object_id: expected a whole number"),
        ({"points": [[5, 3]], "more": 1}, "the request: expected the keys"),
    ],
)
def test_invalid_marks_are_refused(with_clip, marks, sentence):
    status, answer = marked(with_clip, 0, **marks)
    assert status == 400 and sentence in answer["error"]


def test_a_tracked_mask_is_corrected_by_a_mark_outside_the_object_alone(with_clip):
    truth = drawn_videos.draw(4, (1,), SIZE)[1]
    wrong = truth.copy()
    wrong[80:90, 120:140] = 1
    with_clip.ask("PUT", "mask/4?given=0", wrong.tobytes())
    status, answer = marked(with_clip, 4, "?corrects=1", points=[[130, 85]], labels=[0])
    assert status == 200, answer
    found = mask_of(with_clip, 4)
    assert not found[85, 130] and np.mean(found != truth) < 0.01


def test_a_mark_keeps_what_a_run_stores_before_its_answer(clip_folder, tmp_path):
    """One mask arrives while the mark waits for the network, another while the network runs."""
    first, second = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    first[:9], second[-9:] = 1, 2

    @contextlib.contextmanager
    def turn():
        visitor.clip.write_mask(4, first)
        yield
        visitor.clip.write_mask(4, second)

    visitor = Visitor(tmp_path, VideoPredictor(color_model.ColorModel()), turn(), LIMITS)
    visitor.load([clip_folder / "bunny.mp4"], "clip")
    asked = []
    visitor._prompter = lambda *inputs: asked.append(inputs[-1]) or np.eye(*SIZE, dtype=np.uint8)
    visitor.prompt(4, points.parsed("", {"object_id": 1, "points": [[0, 0]]}), corrects=True)
    np.testing.assert_array_equal(asked, [first == 1])
    wanted = np.where(second, second, np.eye(*SIZE, dtype=np.uint8))
    np.testing.assert_array_equal(visitor.clip.mask(4), wanted)


def test_the_mask_of_the_example_is_scaled_with_its_frames(clip_folder):
    limits = LIMITS._replace(side=SIZE[1] // 2)
    with serving(VideoPredictor(color_model.ColorModel()), clip_folder, limits) as where:
        browser = Browser(where)
        state = browser.ask("POST", "example")[1]
        assert (state["clip"]["height"], state["clip"]["width"]) == (SIZE[0] // 2, SIZE[1] // 2)
        assert len(browser.ask("GET", "mask/0")[1]) == SIZE[0] // 2 * (SIZE[1] // 2)
        browser.ask("POST", "run", b'{"position": 0}')
        assert browser.wait()["run"]["done"] == FRAMES - 1


def test_downloads_keep_the_times_of_the_frames(browser, tmp_path):
    images = [Image.fromarray(drawn_videos.draw(n, [1], SIZE)[0]) for n in range(4)]
    durations = [100, 50, 300, 100]
    path = tmp_path / "irregular.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations)
    assert browser.ask("POST", "clip?name=irregular.gif", path.read_bytes())[0] == 200
    _, film = browser.ask("GET", "download/overlay.mp4")
    (tmp_path / "overlay.mp4").write_bytes(film)
    times = [round(float(f.time), 3) for f in video.open_frames(tmp_path / "overlay.mp4").timed()]
    assert times == [0, 0.1, 0.15, 0.45]
    browser.ask("PUT", "mask/3", drawn_videos.draw(3, [1], SIZE)[1].tobytes())
    _, text = browser.ask("GET", "download/masks.json")
    assert [image["time"] for image in json.loads(text)["images"]] == [0.45]


def test_the_overlay_has_the_pixel_aspect_of_the_clip(browser, tmp_path):
    path = tmp_path / "wide.mp4"
    with video_writing.writing_video(path, 10, pixel_aspect=Fraction(16, 9)) as write:
        write(drawn_videos.draw(0, [1], SIZE)[0])
    assert browser.ask("POST", "clip?name=wide.mp4", path.read_bytes())[0] == 200
    path.write_bytes(browser.ask("GET", "download/overlay.mp4")[1])
    assert video.open_frames(path).pixel_aspect == Fraction(16, 9)


def test_an_animated_png_is_a_clip(browser):
    first, second = (Image.new("RGB", (40, 30), color) for color in ("red", "blue"))
    stream = io.BytesIO()
    first.save(stream, "PNG", save_all=True, append_images=[second])
    status, state = browser.ask("POST", "clip?name=shot.png", stream.getvalue())
    assert (status, state["clip"]["frames"]) == (200, 2)


def test_pictures_become_a_clip(browser):
    files = []
    for number in range(4):
        stream = io.BytesIO()
        Image.new("RGB", (40, 30 + number // 3), (0, 0, 70 * number)).save(stream, "PNG")
        files.append(stream.getvalue())
    sizes = ",".join(str(len(file)) for file in files)
    status, answer = browser.ask("POST", f"clip?name=shot1.png&sizes={sizes}", b"".join(files))
    assert answer["error"] == "frame 4: expected 40x30 pixels like the first one, found 40x31"
    sizes = ",".join(str(len(file)) for file in files[:3])
    status, state = browser.ask("POST", f"clip?name=shot1.png&sizes={sizes}", b"".join(files[:3]))
    assert status == 200, state
    assert (state["clip"]["frames"], state["clip"]["name"]) == (3, "shot1")
    for wrong in ("5", "5,x", "9,9"):
        status, answer = browser.ask("POST", f"clip?sizes={wrong}", b"no pictures at all")
        assert status == 400 and answer["error"] and "/tmp" not in answer["error"]


def test_downloads_are_safely_named_after_any_clip(browser, clip_folder):
    film = (clip_folder / "bunny.mp4").read_bytes()
    browser.ask("POST", "clip?name=%C3%84%20%22b%22%0A..%2F.mp4", film)
    connection = http.client.HTTPConnection(browser._host, timeout=60)
    connection.request("GET", "/api/download/masks.zip", headers={"cookie": browser.cookie})
    header = connection.getresponse().getheader("content-disposition")
    assert header.startswith("attachment; filename*=UTF-8''") and header.endswith("_masks.zip")
    assert not set(header.partition("''")[2]) & set('/"\n ;')


@pytest.mark.parametrize(
    ("given", "status"),
    [(None, 401), ("Basic bm9uc2Vuc2U", 401), ("Basic " + "eDp3cm9uZw==", 401), ("Bearer x", 401)],
)
def test_nothing_is_answered_without_the_password(clip_folder, given, status):
    assert asked_with_password(clip_folder, given) == status


def test_with_the_password_the_page_is_served_under_any_name(clip_folder):
    right = "Basic " + base64.b64encode(b"anybody:open sesame").decode()
    assert asked_with_password(clip_folder, right) == 200


def asked_with_password(clip_folder, authorization) -> int:
    """Returns the status of a request for the page, sent to the application itself."""
    pytest.importorskip("starlette", reason="needs starlette: pip install 'feelvos_tf[demo]'")
    from feelvos_tf.demo_page import server

    predictor = VideoPredictor(color_model.ColorModel())
    app = server.create(predictor, clip_folder, LIMITS, "open sesame")
    headers = [(b"host", b"another.example")]
    if authorization:
        headers.append((b"authorization", authorization.encode()))
    scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "query_string": b""}
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await (
            asyncio.Event().wait()
        )  # Nobody hangs up. A call that returned would be repeated forever.

    asyncio.run(app({**scope, "headers": headers}, receive, send))
    return sent[0]["status"]


def test_two_visitors_do_not_see_each_other_s_files(with_clip, address):
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


def test_the_number_of_visitors_is_limited(address):
    browsers = [Browser(address) for _ in range(LIMITS.visitors + 1)]
    assert {each.ask("GET", "state")[0] for each in browsers} == {200}
    answers = [each.ask("POST", "example") for each in browsers]
    assert [status for status, _ in answers] == [200] * LIMITS.visitors + [400]
    assert "visitors already" in answers[-1][1]["error"]
    for each in browsers:
        each.ask("POST", "leave")


def test_files_are_removed_with_their_visitor_and_with_an_earlier_clip(
    clip_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    predictor = VideoPredictor(color_model.ColorModel())
    with serving(predictor, clip_folder, LIMITS) as where:
        browser = Browser(where)
        for count, request in ((1, "example"), (1, "example"), (0, "leave")):
            browser.ask("POST", request)
            assert len(list(tmp_path.rglob("00000.jpg"))) == count


@pytest.mark.parametrize("path", ["state", "frame/0", "download/masks.zip"])
def test_another_name_for_this_machine_is_refused(browser, path):
    status, _ = browser.ask("GET", path, Host="evil.example")
    assert status == 400


def test_invalid_requests_are_refused(with_clip, clip_folder):
    pixels = SIZE[0] * SIZE[1]
    film = (clip_folder / "bunny.mp4").read_bytes()
    described = {"name": "a", "color": "#ffffff"}
    too_many = json.dumps(dict.fromkeys(range(1, 32), described)).encode()
    playlist = f"#EXTM3U\n#EXTINF:1,\n{clip_folder / 'bunny.mp4'}\n#EXT-X-ENDLIST\n".encode()
    for method, path, body, status, sentence in (
        ("PUT", "mask/0", bytes(pixels - 1), 400, f"expected {pixels} bytes"),
        ("PUT", "mask/0", bytes(pixels + 1), 400, f"expected {pixels} bytes"),
        ("PUT", "mask/0", b"\xff" * pixels, 400, "ids 0 to 254"),
        ("PUT", f"mask/{FRAMES}", bytes(pixels), 400, "expected a frame 0 to 11, found 12"),
        ("GET", "frame/99", b"", 400, "expected a frame"),
        ("POST", "run", b"{", 400, "expected JSON"),
        ("POST", "run", b"[" * 90_000, 400, "expected JSON"),
        ("POST", "run", b"[]", 400, "expected a frame"),
        ("POST", "run", b'{"position": 0, "direction": "up"}', 400, "expected one of both"),
        ("POST", "run", b'{"position": 1}', 400, "paint an object first"),
        ("POST", "run", b'{"position": false}', 400, "expected a frame 0 to 11, found False"),
        ("PUT", "objects", b'{"1": {"name": "a", "color": "url(x)"}}', 400, "color like"),
        ("PUT", "objects", b'{"0": {"name": "a", "color": "#ffffff"}}', 400, "ids 1 to 254"),
        ("PUT", "objects", b'{"01": {"name": "a", "color": "#ffffff"}}', 400, "ids 1 to 254"),
        ("PUT", "objects", b'{"1": {"name": [], "color": "#ffffff"}}', 400, "a name and"),
        ("PUT", "objects", b'{"1": 5}', 400, "a name and"),
        ("PUT", "objects", too_many, 400, "expected at most 30 objects, found 31"),
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
    def key() -> str:
        return with_clip.ask("GET", "state")[1]["clip"]["key"]

    before = key()
    assert with_clip.ask("POST", "clip", b"no video")[0] == 400 and key() == before
    status, state = with_clip.ask("POST", "clip", (clip_folder / "bunny.mp4").read_bytes())
    assert status == 200 and state["clip"]["frames"] == FRAMES
    assert state["masked"] == [] and key() != before


# ---- Strangers and failures


def at_once(count: int, ask) -> list:
    """Returns the answers to one request made by several threads at the same time."""
    start = threading.Barrier(count)

    def wait_and_ask(_):
        start.wait()
        return ask()

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_ask, range(count)))


@pytest.fixture
def blocked_network(monkeypatch):
    """Yields an event that unblocks the network; until then, it hangs in its first frame."""
    entered, go_on, real = threading.Event(), threading.Event(), VideoPredictor.step

    def step(self, image):
        entered.set()
        assert go_on.wait(60)
        return real(self, image)

    monkeypatch.setattr(VideoPredictor, "step", step)
    go_on.entered = entered
    yield go_on
    go_on.set()


def seconds_of(action) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def test_stopping_and_leaving_do_not_wait_for_the_network(with_clip, address, blocked_network):
    with_clip.ask("POST", "run", b'{"position": 0}')
    assert blocked_network.entered.wait(30)
    assert seconds_of(lambda: with_clip.ask("POST", "stop")) < 5
    state = with_clip.ask("GET", "state")[1]
    assert not state["running"] and state["masked"] == [0]

    # Another visitor's run waits for its turn; leaving blocks neither visitor.
    other = Browser(address)
    other.ask("POST", "example")
    other.ask("POST", "run", b'{"position": 0}')
    assert seconds_of(lambda: with_clip.ask("POST", "leave")) < 5
    assert seconds_of(lambda: other.ask("GET", "state")) < 5
    assert seconds_of(lambda: other.ask("POST", "leave")) < 5


def test_a_stopped_run_writes_nothing_more(with_clip, blocked_network):
    with_clip.ask("POST", "run", b'{"position": 0}')
    assert blocked_network.entered.wait(30)
    with_clip.ask("POST", "stop")
    # Frame 1 is still in the network; what the stopped thread computes must not replace this mask.
    with_clip.ask("PUT", "mask/1", bytes(SIZE[0] * SIZE[1]))
    blocked_network.set()
    deadline = time.monotonic() + 30
    while any(each.name == "propagation" for each in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    state = with_clip.ask("GET", "state")[1]
    assert state["masked"] == [0, 1] and state["given"] == [0, 1] and state["run"]["error"] == ""
    assert not mask_of(with_clip, 1).any()


def test_only_one_of_simultaneous_runs_is_accepted(with_clip):
    for _ in range(5):
        answers = at_once(6, lambda: with_clip.ask("POST", "run", b'{"position": 0}')[0])
        assert sorted(answers) == [200] + [400] * 5
        with_clip.ask("POST", "stop")


def test_simultaneous_uploads_are_read_one_after_the_other(with_clip, clip_folder):
    film = (clip_folder / "bunny.mp4").read_bytes()
    answers = at_once(6, lambda: with_clip.ask("POST", "clip", film))
    assert [status for status, _ in answers] == [200] * 6
    assert len({answer["clip"]["key"] for _, answer in answers}) == 6
    assert with_clip.ask("GET", "state")[1]["clip"]["frames"] == FRAMES


@pytest.fixture(scope="module")
def impatient_address(clip_folder):
    """Yields the address of a page that soon gives up on silent visitors."""
    predictor = VideoPredictor(color_model.ColorModel())
    with serving(predictor, clip_folder, LIMITS._replace(silent_seconds=SILENT_SECONDS)) as where:
        yield where


def began_upload(address: str) -> socket.socket:
    """Returns the connection of a stranger who has sent part of a file."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = (
        f"POST /api/clip HTTP/1.1\r\nHost: {host}\r\nx-feelvos: 1\r\nContent-Length: 9999\r\n\r\n"
    )
    connection.sendall(head.encode() + b"half a file")
    return connection


@pytest.mark.parametrize("hang_up", [True, False], ids=["hung up", "silent"])
def test_an_abandoned_upload_frees_its_place(impatient_address, hang_up):
    connections = [began_upload(impatient_address) for _ in range(10)]
    newcomer = Browser(impatient_address)
    time.sleep(0.3)
    assert newcomer.ask("POST", "example")[0] == 400  # They still take the places.
    if hang_up:
        for connection in connections:
            connection.close()
    time.sleep(0.5 if hang_up else SILENT_SECONDS + 0.7)
    assert newcomer.ask("POST", "example")[0] == 200
    newcomer.ask("POST", "leave")
    for connection in connections:
        connection.close()


def test_a_visitor_who_never_returns_the_cookie_is_removed(impatient_address):
    for _ in range(LIMITS.visitors):
        assert Browser(impatient_address).ask("POST", "example")[0] == 200
    newcomer = Browser(impatient_address)
    assert newcomer.ask("POST", "example")[0] == 400
    time.sleep(SILENT_SECONDS + 0.2)
    assert newcomer.ask("POST", "example")[0] == 200
    newcomer.ask("POST", "leave")


def test_half_an_emoji_is_dropped_from_a_name(with_clip):
    status, state = with_clip.ask(
        "PUT", "objects", rb'{"1": {"name": "cat \ud83d", "color": "#ffffff"}}'
    )
    assert status == 200 and state["objects"]["1"]["name"] == "cat "


def test_the_limit_on_objects_counts_all_frames_together(with_clip):
    masks = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    assert with_clip.ask("PUT", "mask/0", (masks % 16).astype(np.uint8).tobytes())[0] == 200
    mask = (masks % 16 + 16).astype(np.uint8)
    status, answer = with_clip.ask("PUT", "mask/1", mask.tobytes())
    assert (status, answer["error"]) == (400, "expected at most 30 objects, found 31")
    assert with_clip.ask("GET", "state")[1]["given"] == [0]


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/feelvos_demo_/secret")


def test_a_full_disk_is_reported_without_server_paths(with_clip, clip_folder, monkeypatch):
    film = (clip_folder / "bunny.mp4").read_bytes()
    for target, name, method, path, body in (
        (zipfile.ZipFile, "writestr", "GET", "download/masks.zip", b""),
        (Image.Image, "save", "PUT", "mask/1", bytes(SIZE[0] * SIZE[1])),
        (Image.Image, "save", "POST", "clip", film),
        (tempfile, "mkdtemp", "POST", "clip", film),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, full)
            status, answer = with_clip.ask(method, path, body)
        assert status in (400, 507) and "no space is left" in answer["error"], (name, path, answer)
        assert "/" not in answer["error"], answer
    assert not list(pathlib.Path("/tmp").glob("feelvos_demo_*/*/.*"))
    assert not list(pathlib.Path("/tmp").glob("feelvos_demo_*/*/*.zip"))
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with_clip.ask("POST", "run", b'{"position": 0}')
        while with_clip.ask("GET", "state")[1]["running"]:
            time.sleep(0.05)
    error = with_clip.ask("GET", "state")[1]["run"]["error"]
    assert error == "cannot be written, no space is left on the disk"


def test_a_mask_can_be_restored_as_the_result_of_a_run(with_clip):
    truth = drawn_videos.draw(4, (1, 2), SIZE)[1]
    with_clip.ask("PUT", "mask/4?given=0", truth.tobytes())
    state = with_clip.ask("GET", "state")[1]
    assert (state["masked"], state["given"]) == ([0, 4], [0])


def test_removing_an_object_clears_it_from_the_list_and_all_masks(with_clip):
    truth = drawn_videos.draw(4, (1, 2), SIZE)[1]
    with_clip.ask("PUT", "mask/4", truth.tobytes())
    with_clip.ask("PUT", "mask/5", np.where(truth == 2, truth, 0).tobytes())
    status, state = with_clip.ask("DELETE", "objects/1")
    assert status == 200 and state["objects"] == {}
    assert state["masked"] == [4, 5] and state["given"] == [4, 5]
    np.testing.assert_array_equal(mask_of(with_clip, 4), np.where(truth == 2, 2, 0))


def test_the_port_listens_before_the_server_starts_and_cannot_be_taken_twice():
    with demo._listening("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        with pytest.raises(InputError, match=f"--port={port}: cannot be used"):
            demo._listening("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "address"), [("::1", "http://[::1]:7860 "), ("127.0.0.1", "http://127.0.0.1:7860 ")]
)
def test_the_printed_address_can_be_opened(host, address, capsys):
    demo._FLAGS(["demo", f"--host={host}"])
    demo._print_address(7860, None)
    demo._FLAGS.unparse_flags()
    assert f"open {address}" in capsys.readouterr().out


def test_the_warm_up_prepares_the_first_click(clip_folder, tmp_path):
    class Recording(VideoPredictor):
        asked = []

        def another(self):
            return self

        def prompt(self, image, points, labels, box=None, mask=None):
            self.asked.append((image.shape, points, labels))

    predictor = Recording(color_model.ColorModel())
    demo._warm_up(predictor, tmp_path / "missing.mp4")
    assert not predictor.asked
    demo._warm_up(predictor, clip_folder / "bunny.mp4")
    height, width = SIZE
    assert predictor.asked == [((height, width, 3), [[width / 2, height / 2]], [1])]
