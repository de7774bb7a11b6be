import numpy as np
import pytest

from feelvos_tf.core import process_memory


@pytest.mark.parametrize("content", [None, "Name:\tpython\n"])
def test_all_figures_are_available_without_proc(tmp_path, content):
    status = tmp_path / "status"
    if content is not None:
        status.write_text(content)
    for known in (process_memory.peak(status), process_memory.resident(status)):
        assert 0.5 < known / process_memory.peak() < 2.0


def test_held_memory_counts_and_freed_memory_does_not_after_a_reset():
    process_memory.reset_peak()
    before = process_memory.resident()
    held = np.ones(64 * 2**20, np.uint8)
    assert process_memory.resident() - before > 48 * 2**20
    del held
    assert process_memory.peak() - before > 48 * 2**20
    process_memory.reset_peak()
    assert process_memory.peak() - before < 48 * 2**20
