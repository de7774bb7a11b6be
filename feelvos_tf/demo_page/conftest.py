"""Fixtures that serve the page with a drawn clip and a model that tracks colors."""

from __future__ import annotations

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from feelvos_tf.demo_page.visitors import Limits
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media import masks
from feelvos_tf.testing import color_model, drawn_videos

SIZE, FRAMES, IDS = (96, 160), 12, (1, 2)
LIMITS = Limits(upload_bytes=1_000_000, frames=20, visitors=3)


class SlowPredictor(VideoPredictor):
    """A predictor slow enough for runs to be stopped."""

    def step(self, image: np.ndarray) -> np.ndarray:
        time.sleep(0.15)
        return super().step(image)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> pathlib.Path:
    """Returns a folder with a clip and a mask, named like those in `testdata/`."""
    folder = tmp_path_factory.mktemp("demo")
    images = [drawn_videos.draw(frame, IDS, SIZE)[0] for frame in range(FRAMES)]
    drawn_videos.write_video(folder / "bunny.mp4", images, 10.0)
    masks.write_mask(folder / "bunny.png", drawn_videos.draw(0, IDS[:1], SIZE)[1])
    return folder


@contextlib.contextmanager
def serving(predictor: VideoPredictor, folder: pathlib.Path, limits: Limits) -> Iterator[str]:
    """Yields the address of the page."""
    pytest.importorskip("starlette", reason="needs starlette: pip install 'feelvos_tf[demo]'")
    uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'feelvos_tf[demo]'")
    from feelvos_tf.demo_page import server

    app = server.create(predictor, folder, limits)
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def address(clip_folder) -> Iterator[str]:
    """Yields the address of a page with a slow network."""
    with serving(SlowPredictor(color_model.ColorModel()), clip_folder, LIMITS) as where:
        yield where
