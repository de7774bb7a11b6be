"""The README of this folder: its code blocks form one program that runs."""

from __future__ import annotations

import pathlib
import re

import numpy as np

from feelvos_tf.inference.video_predictor import VideoPredictor

PAGE = pathlib.Path(__file__).with_name("README.md")
ROOT = PAGE.parents[2]


def test_the_code_blocks_of_the_page_run_with_the_documented_results(tmp_path, monkeypatch, capsys):
    """At a small size, to save time."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) >= 7
    monkeypatch.chdir(tmp_path)
    program = "\n".join(blocks).replace('"testdata/', f'"{ROOT}/testdata/')
    program = program.replace("load()", "load(inference_size=128)")
    program = program.replace("load(max", "load(inference_size=128, max")
    found = {}
    exec(program, found)  # noqa: S102
    assert capsys.readouterr().out.splitlines() == [
        "[0, 1]",
        "expected ids that are followed (1), found 7",
    ]
    assert (tmp_path / "state.npz").is_file()
    shape = found["mask"].shape
    assert found["rabbit"].dtype == np.float32 and found["rabbit"].shape == shape
    assert len(found["forward"]) == 1 and len(found["backward"]) == 3
    # Back in the first frame, the object is where its mask was.
    first, mask = found["backward"][-1] == 1, found["mask"] == 1
    assert (first & mask).sum() > 0.7 * (first | mask).sum()


def test_every_method_of_the_predictor_is_in_the_table_of_calls():
    table = (pathlib.Path(__file__).parent / "API.md").read_text()
    names = [name for name in vars(VideoPredictor) if not name.startswith("_")]
    assert len(names) > 10
    assert not [name for name in names if f"`{name}(" not in table and f"`{name}`" not in table]
