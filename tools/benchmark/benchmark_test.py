"""The benchmarks: yardsticks that do the same work as the fast paths, tables and commands."""

import json
import pathlib
import subprocess
import sys
import time
import types

import frame
import matching
import measure
import numpy as np
import pytest
import sizes
import tensorflow as tf
import training
from measure import Case, Row

from feelvos_tf.data import datasets
from feelvos_tf.inference import model_loading
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.global_matching import global_distances_inference, prepare_reference
from feelvos_tf.models.local_matching import local_distances_inference
from feelvos_tf.testing import small_model

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata"
_OBJECTS, _RADIUS = 3, 2


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    query, other = (tf.constant(rng.random((6, 9, 5), np.float32)) for _ in range(2))
    return query, other, tf.constant(rng.integers(0, _OBJECTS, (6, 9)), tf.int32)


@pytest.mark.parametrize("function", [matching.release_global, matching.naive_global])
def test_yardsticks_of_global_matching_do_the_same_work(frames, function):
    query, other, labels = frames
    reference = prepare_reference(other, labels, tf.constant(_OBJECTS))
    ours = tf.reshape(global_distances_inference(query, reference), [_OBJECTS, -1])
    flat = [tf.reshape(query, [-1, 5]), tf.reshape(other, [-1, 5]), tf.reshape(labels, [-1])]
    np.testing.assert_allclose(function(*flat, _OBJECTS), ours, atol=1e-5)


@pytest.mark.parametrize("function", [matching.correlation_local, matching.shifted_local])
def test_yardsticks_of_local_matching_do_the_same_work(frames, function):
    if function is matching.correlation_local:
        pytest.importorskip("tensorflow_addons")
    ours = local_distances_inference(*frames, tf.constant(_OBJECTS), _RADIUS)
    np.testing.assert_allclose(function(*frames, _OBJECTS, _RADIUS), ours, atol=1e-5)


def test_runs_of_a_group_take_turns_after_a_warm_up():
    calls = []
    cases = [Case(name, "group", lambda name=name: lambda: calls.append(name)) for name in "ab"]
    rows = measure.measure(cases, repeats=2, peak_command=None)
    assert calls == ["a", "b"] * 3
    assert [row.name for row in rows] == ["a", "b"]
    assert rows[0].ratio == 1.0


def test_peak_memory_counts_what_one_call_adds():
    case = Case("arrays", "group", lambda: lambda: np.ones(50_000_000, np.uint8).sum())
    assert 40 < measure.peak_of(case) < 120


def test_table_and_json_hold_every_row():
    rows = [Row("group", "ours", 1.0, 0.5, 12.0, 2.0), Row("group", "other", 3.0, 1.5, None, 0.67)]
    table = measure.format_table(rows)
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["ours", "other"]
    read = json.loads(measure.to_json("matching", {"height": 480}, rows))
    assert read["rows"][1]["ratio"] == 3.0
    assert read["environment"]["tensorflow"] == tf.__version__


def test_both_recipes_have_the_same_parts_of_a_step():
    cases = training.step_cases(datasets.list_sequences(TESTDATA, split="train")[:1])
    assert [case.name for case in cases[:5]] == [case.name for case in cases[5:]]
    assert {case.group for case in cases[5:]} == {
        "a training step: xception_65, one clip of 233x233"
    }


def test_matching_and_head_are_a_part_of_a_frame(monkeypatch):
    monkeypatch.setitem(frame.BACKBONES, "xception_65", frame.BACKBONES["mobilenet_v2"])
    cases = frame.frame_cases(frame.Sizes(32, 48, 2))
    [case] = [case for case in cases if case.name == "matching and head"]
    assert case.make()().shape == (2, 8, 12, 1)


def test_processor_seconds_exclude_waiting():
    case = Case("asleep", "group", lambda: lambda: time.sleep(0.2))
    [by_clock] = measure.measure([case], 1, None)
    [by_processor] = measure.measure([case], 1, None, time.process_time)
    assert by_clock.seconds >= 0.2 > by_processor.seconds


def test_the_table_of_sizes_has_a_line_for_each_number_of_objects(monkeypatch):
    """Measured in this process, with a tiny model."""

    class Pool:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def starmap(self, function, jobs, chunksize):
            return [function(*job) for job in jobs]

    monkeypatch.setattr(
        sizes.multiprocessing,
        "get_context",
        lambda _: types.SimpleNamespace(Pool=lambda *_, **__: Pool()),
    )
    monkeypatch.setattr(model_loading, "build_bundled", lambda: Predictor(small_model.create()))
    lines = list(sizes.table(1, (32,), (1, 2), ("mobilenet_v2",)))
    assert lines[0].startswith("| size | objects | mobilenet_v2: processor, s |")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [row[:2] for row in cells] == [["32x57", "1"], ["32x57", "2"]]
    assert all(len(row) == 5 and float(row[4]) > 50 for row in cells)


def run(*arguments):
    command = [sys.executable, pathlib.Path(__file__).parent, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_is_the_word_without_dashes():
    small = ["--height=64", "--width=64", "--repeats=1", "--nomemory", "--json"]
    done = run("matching", "--only=head", *small)
    assert done.returncode == 1
    assert "--only=head: no group of matching has this in its title" in done.stderr
    assert "expected one of matching, frame, " in run(*small).stderr
    assert "found marching" in run("marching").stderr


def test_a_command_prints_its_table():
    chosen = [f"--dataset_root={TESTDATA}", "--sequences=koi-pond"]
    done = run("eval", *chosen, "--repeats=1", "--nomemory", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["sizes"]["dataset_root"] == str(TESTDATA)
    assert printed["sizes"]["sequences"] == "koi-pond"
    # Three objects in all 24 frames but the first and the last.
    assert "scoring 66 objects" in printed["rows"][0]["group"]
    assert printed["rows"][0]["name"] == "ours, 1 worker"
