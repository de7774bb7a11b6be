"""Every program answers --help and a wrong flag at once, and starts TensorFlow as it should.

Importing TensorFlow takes seconds; without it --help takes about half a second.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import subprocess
import sys

import pytest

from feelvos_tf.core import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Each with arguments that make it import TensorFlow.
PROGRAMS = {
    ("-m", "feelvos_tf.train"): ["--gin_param=a.b = 1", "--model_dir={folder}"],
    ("-m", "feelvos_tf.evaluate"): ["--model_dir={folder}", "--once"],
    ("-m", "feelvos_tf.export"): ["--model_dir={folder}", "--export_dir={folder}/new"],
    ("-m", "feelvos_tf.predict"): [
        "--saved_model={folder}",
        "--video={testdata}/JPEGImages/480p/butterfly",
        "--mask={testdata}/Annotations/480p/butterfly/00000.png",
        "--output_dir={folder}/new",
    ],
    ("-m", "feelvos_tf.demo"): None,
    ("tools/build_tfrecords.py",): ["--dataset_root={testdata}", "--output_dir={folder}/new"],
    ("tools/convert_checkpoint.py",): [
        "--tf1_checkpoint={folder}/model.ckpt",
        "--gin_file=gin_configs/models/mobilenet_v2.gin",
        "--model_dir={folder}/new",
    ],
    ("tools/convert_youtube_objects.py",): None,
    ("tools/eval_davis.py",): None,
    ("tools/pack_pretrained.py",): ["--model_dir={folder}", "--output_dir={folder}"],
    ("tools/pasted_clips.py",): None,
    ("tools/predict_baseline.py",): None,
    ("tools/side_by_side.py",): None,
    ("tools/table6.py",): None,
    ("tools/benchmark",): ["matching"],
    ("tools/benchmark/gpu_check.py",): None,
    ("tools/benchmark/versions.py",): ["--output={folder}/new.npz"],
    ("tools/testdata/draw_testdata.py",): None,
}
# Modules that take the place of TensorFlow.
REFUSING = "raise RuntimeError('TensorFlow was imported')"
PRINTING = f"import os; print('oneDNN', os.environ.get({cli.ONEDNN!r}), flush=True); os._exit(3)"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Returns a function that runs a program with --help, each program once."""
    folder = tmp_path_factory.mktemp("help")
    return functools.cache(lambda program: run(program, ["--help"], REFUSING, folder))


def run(program, arguments, tensorflow, folder, **environment):
    """Runs a program with another module in place of TensorFlow."""
    (folder / "modules").mkdir(exist_ok=True)
    (folder / "modules/tensorflow.py").write_text(tensorflow)
    paths = [str(folder / "modules"), str(ROOT)]
    inherited = {name: value for name, value in os.environ.items() if name != cli.ONEDNN}
    return subprocess.run(
        [sys.executable, *program, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": os.pathsep.join(paths), **environment},
    )


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda words: words[-1])
def test_help_and_a_wrong_flag_are_answered_without_tensorflow(program, shown, tmp_path):
    help_text = shown(program)
    assert help_text.returncode == 0 and "flags:" in help_text.stdout, help_text.stderr
    wrong = run(program, ["--no_such_flag=1"], REFUSING, tmp_path)
    assert wrong.returncode == 1
    assert "Unknown command line flag 'no_such_flag'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda words: words[-1])
def test_help_shows_every_flag_of_the_program(program, shown, tmp_path):
    """All that --helpfull shows, except absl's own."""
    everything = run(program, ["--helpfull"], REFUSING, tmp_path).stdout
    ours = [part for part in everything.split("\n\n") if not part.lstrip().startswith("absl.")]
    flag = re.compile(r"^  (?:-\w,)?--(?:\[no\])?(\w+)", re.M)
    assert set(flag.findall("\n\n".join(ours))) == set(flag.findall(shown(program).stdout))


@pytest.mark.parametrize(
    "program",
    [program for program, arguments in PROGRAMS.items() if arguments is not None],
    ids=lambda words: words[-1],
)
def test_onednn_is_chosen_before_tensorflow_is_imported(program, tmp_path):
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if not cpuinfo.exists() or not re.search(r"\bavx2\b", cpuinfo.read_text()):
        pytest.skip("the processor is not known to have AVX2")
    for name in ("operative_config.gin", "checkpoint", "saved_model.pb"):
        (tmp_path / name).touch()
    card = ROOT / "feelvos_tf/pretrained/MODEL_CARD.md"
    (tmp_path / card.name).write_text(card.read_text())
    places = {"folder": tmp_path, "testdata": ROOT / "testdata"}
    arguments = [argument.format(**places) for argument in PROGRAMS[program]]
    done = run(program, arguments, PRINTING, tmp_path)
    assert done.stdout.endswith("oneDNN 1\n"), done.stderr
    done = run(program, arguments, PRINTING, tmp_path, **{cli.ONEDNN: "0"})
    assert done.stdout.endswith("oneDNN 0\n"), done.stderr
