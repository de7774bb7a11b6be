"""Output folders, stopping a live video, and saved embeddings."""

from __future__ import annotations

import os
import signal
import threading
from fractions import Fraction

import numpy as np
import pytest

from feelvos_tf import predict
from feelvos_tf.core import background
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import command_line, input_video, model_loading
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.media import live_frames, pictures, video
from feelvos_tf.testing import color_model, drawn_videos, in_this_process, small_model

FRAMES = 3


def test_results_stay_inside_the_output_folder(tmp_path):
    output = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    output.mkdir()
    (output / "link").symlink_to(tmp_path / "elsewhere")
    (output / "loop").symlink_to("loop")
    (output / "inside").symlink_to("real")
    (output / "real").mkdir()
    (output / "nowhere").symlink_to("nothing")
    for name in ("bear", "more/bear", "inside"):
        command_line._check_inside(output / name, output)
    for name in ("link", "link/bear", "../elsewhere", "loop", "nowhere", ".", "/etc"):
        with pytest.raises(InputError, match="expected a path inside|cannot be written"):
            command_line._check_inside(output / name, output)
    (tmp_path / "other_name").symlink_to(output)
    command_line._check_inside(tmp_path / "other_name" / "bear", tmp_path / "other_name")


def frames(count):
    for number in range(count):
        yield video.Frame(number, Fraction(number), np.zeros((8, 8, 3), np.uint8))


def test_first_ctrl_c_ends_a_live_video_and_the_second_the_run(tmp_path):
    live = input_video.from_video(live_frames.LiveFrames(frames(100), 10), tmp_path / "mask.png")
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    seen = []
    with command_line._stopping([live], continues=True):
        for frame in live.frames:
            seen.append(frame.number)
            if frame.number == 3:
                os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert seen == [0, 1, 2, 3]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stalled_live_video_can_be_stopped(tmp_path, number):
    """At the first Ctrl-C, with its masks complete; SIGTERM interrupts."""
    is_over = threading.Event()

    def stalling():
        yield from frames(3)
        is_over.wait()

    live = input_video.from_video(live_frames.LiveFrames(stalling(), 10), tmp_path / "mask.png")
    seen = []
    try:
        with command_line._stopping([live], continues=True):
            for frame in background.prefetched(live.frames):
                seen.append(frame.number)
                if frame.number == 2:
                    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    except KeyboardInterrupt:
        assert number == signal.SIGTERM
    else:
        assert number == signal.SIGINT
    finally:
        is_over.set()
    assert seen == [0, 1, 2]


def test_sigterm_interrupts_like_ctrl_c(capsys):
    for continues in (True, False):
        with pytest.raises(KeyboardInterrupt), command_line._stopping([], continues):
            os.kill(os.getpid(), signal.SIGTERM)
        found = "run the same command again to continue from here" in capsys.readouterr().out
        assert found == continues


def test_embeddings_of_every_frame_are_saved(tmp_path, monkeypatch, eagerly):
    model, folder = small_model.create(), color_model.save(tmp_path / "model")
    # A network in its place: loading a saved one gives the same but takes half a minute.
    monkeypatch.setattr(model_loading, "load_saved_model", lambda _: Predictor(model))
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 3]}, FRAMES)
    arguments = (
        f"--saved_model={folder}",
        f"--dataset_root={root}",
        f"--output_dir={tmp_path / 'masks'}",
        f"--save_embeddings={tmp_path / 'embeddings'}",
    )
    for _ in range(2):
        done = in_this_process.run(predict, *arguments)
        assert f"embeddings: {tmp_path / 'embeddings'}" in done.stdout, done.stderr
        saved = sorted((tmp_path / "embeddings" / "bear").iterdir())
        assert [path.name for path in saved] == [f"{frame:05d}.npz" for frame in range(FRAMES)]
        for frame, path in enumerate(saved):
            image = pictures.read_image(root / f"JPEGImages/480p/bear/{frame:05d}.jpg")
            expected = model.extract(image[np.newaxis]).embeddings[0]
            found = np.load(path)["embeddings"]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
            path.unlink()
