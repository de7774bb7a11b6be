"""The load test of the page: its table, and a short run of the real page."""

from __future__ import annotations

import math
import os
import pathlib
import re
import subprocess
import sys
import threading
import types

import page_load
import pytest
from page_load import Log

PROGRAM = pathlib.Path(__file__).with_name("page_load.py")


def test_the_table_counts_refused_and_failed_requests():
    log = Log()
    log.requests["run"] += [(200, 0.5), (400, 0.1), (500, 2.0), (0, 9.0)]
    log.requests["state"] += [(200, 0.01)] * 3
    assert log.failures() == 2 and log.failures("state") == 0
    _, run, state = log.table().splitlines()
    assert run.split() == ["run", "4", "1", "2", "1.25s", "2.00s", "9.00s"]
    assert state.split()[:4] == ["state", "3", "0", "0"]


def test_a_server_that_has_died_has_no_memory(monkeypatch):
    one = types.SimpleNamespace(value=1)
    monkeypatch.setattr(page_load, "_MINUTES", one)
    monkeypatch.setattr(page_load, "_VISITORS", one)
    monkeypatch.setattr(page_load, "Visitor", lambda *_: threading.Timer(0.1, lambda: None))
    with subprocess.Popen([sys.executable, "-c", ""]) as server:
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        _, memory = page_load._load(server, port=1)
    assert memory and all(map(math.isnan, memory))


@pytest.mark.slow
def test_on_the_real_page_no_request_fails_and_no_file_stays():
    pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'feelvos_tf[demo]'")
    done = subprocess.run(
        [sys.executable, PROGRAM, "--visitors=3", "--minutes=0.4"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "left behind: 0 files" in done.stdout
    counts = dict(re.findall(r"^(\w+)[\w ()]* +(\d+) +\d+ +0 ", done.stdout, re.M))
    assert {"prompt", "run", "state", "download", "leave"} <= counts.keys()
