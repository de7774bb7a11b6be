"""A local cluster of two workers; one is killed in the middle of a video."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.inference import input_video
from feelvos_tf.inference.deploy import ray_cluster
from feelvos_tf.inference.propagation import Outputs, propagate_videos
from feelvos_tf.media import masks
from feelvos_tf.testing import drawn_videos

try:
    ray = ray_cluster._import_ray()
except InputError as error:
    pytest.skip(str(error), allow_module_level=True)


class Repeating:
    """Shifts the last mask one pixel to the right; kills its process once if a file exists.

    Object 3 is lost after three steps.
    """

    def __init__(self, folder):
        self._folder = folder

    def another(self):
        return Repeating(self._folder)

    def start(self, image, mask):
        self._set(mask, 0)

    def restore(self, state):
        self._set(state["mask"], int(state["steps"]))

    def _set(self, mask, steps):
        self._mask, self._steps = mask, steps
        self.object_ids = [0, *masks.object_ids(mask)]

    def step(self, image):
        """Returns the next mask."""
        if 5 in self._mask:
            raise ZeroDivisionError("a defect of the model")
        trigger = self._folder / "kill"
        if 2 in self._mask and self._steps == 2 and trigger.exists():
            trigger.unlink()
            (self._folder / "killed").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        self._mask, self._steps = np.roll(self._mask, 1, axis=1), self._steps + 1
        if self._steps > 3:
            self._mask = np.where(self._mask == 3, np.uint8(0), self._mask)
        with open(self._folder / "steps", "a") as file:
            file.write(f"{os.getpid()} {self.object_ids[1]}\n")
        return self._mask

    def snapshot(self):
        """Returns a function that returns the state."""
        arrays = {"mask": self._mask, "steps": np.array(self._steps)}
        return lambda: arrays


@pytest.fixture(scope="module")
def cluster():
    """Starts a cluster of two cores; its workers find the tests' modules."""
    path = os.pathsep.join(
        [str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    )
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield
    ray.shutdown()


def test_a_killed_worker_does_not_change_the_results(cluster, tmp_path, capfd):
    sequences = {"bear": [1], "cows": [2], "dog": [3], "broken": [4], "defect": [5]}
    root = drawn_videos.write_davis(tmp_path / "davis", sequences)
    (root / "JPEGImages/480p/broken/00003.jpg").write_bytes(b"damaged")
    videos = input_video.from_dataset(datasets.list_sequences(root))
    (tmp_path / "kill").touch()

    def outputs_of(folder):
        return lambda video: Outputs(tmp_path / folder / video.name)

    def make():
        return Repeating(tmp_path)

    report = ray_cluster.propagate_videos_on_ray(make, videos, outputs_of("out"), {}, num_workers=2)
    assert sorted(report.done) == ["bear", "cows", "dog"]
    assert sorted(report.failed) == ["broken", "defect"]
    assert "00003.jpg" in report.failed["broken"]
    assert report.failed["defect"] == "defect: ZeroDivisionError: a defect of the model"
    assert report.lost == {"dog": "object 3 was last seen in frame 00003"}
    assert report.timing.total_seconds > 0
    assert (tmp_path / "killed").exists()
    printed = "".join(capfd.readouterr())
    assert "cows: its worker was killed; another one finished it" in printed
    assert printed.count("was killed") == 1
    done = [video for video in videos if video.name in report.done]
    propagate_videos(make, done, outputs_of("expected"), {})
    for name in ("bear", "cows", "dog"):
        found = sorted((tmp_path / "out" / name).glob("*.png"))
        assert len(found) == 5
        for path in found:
            assert path.read_bytes() == (tmp_path / "expected" / name / path.name).read_bytes()
    again = ray_cluster.propagate_videos_on_ray(make, done, outputs_of("out"), {}, num_workers=2)
    assert sorted(again.complete) == ["bear", "cows", "dog"] and not again.done


class Interrupted(Repeating):
    """Is interrupted in the second step."""

    def another(self):
        return Interrupted(self._folder)

    def step(self, image):
        """Returns the next mask."""
        if self._steps == 1:
            raise KeyboardInterrupt
        return super().step(image)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_run_is_resumed_unless_it_is_overwritten(cluster, tmp_path, overwrite):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]})
    videos = input_video.from_dataset(datasets.list_sequences(root))

    def outputs_of(video):
        return Outputs(tmp_path / "out" / video.name)

    with pytest.raises(KeyboardInterrupt):
        propagate_videos(lambda: Interrupted(tmp_path), videos, outputs_of, {})
    steps = tmp_path / "steps"
    assert len(steps.read_text().splitlines()) == 1
    report = ray_cluster.propagate_videos_on_ray(
        lambda: Repeating(tmp_path), videos, outputs_of, {}, overwrite, num_workers=1
    )
    assert report.done == ["bear"]
    assert len(steps.read_text().splitlines()) == (1 + 4 if overwrite else 4)


@pytest.mark.slow
def test_the_program_distributes_a_data_set_and_the_scorer_reads_the_results(cluster, tmp_path):
    sequences = {"bear": [1], "cows": [2, 3], "dog": [1, 2]}
    drawn_videos.write_davis(tmp_path / "davis", sequences, 12)
    project = pathlib.Path(__file__).parents[3]

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True
        )

    program = "from feelvos_tf.testing import color_model as c; import pathlib; "
    run("-c", program + "c.save(pathlib.Path('model'))")
    arguments = ["--saved_model=model", "--dataset_root=davis", "--output_dir=out"]
    more = ["--ray", "--ray_workers=2", "--overlays=look", "--save=csv"]
    result = run("-m", "feelvos_tf.predict", *arguments, *more)
    assert result.returncode == 0, result.stderr
    assert "33 frames in " in result.stdout
    assert len(list((tmp_path / "look").iterdir())) == 6
    assert (tmp_path / "out/cows/objects.csv").is_file()
    scores = run(project / "tools/eval_davis.py", "--dataset_root=davis", "--predictions=out")
    assert scores.returncode == 0, scores.stderr
    assert "all objects        6      30     0.9" in scores.stdout
