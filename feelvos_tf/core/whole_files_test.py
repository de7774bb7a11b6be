from __future__ import annotations

import zipfile

import numpy as np
import pytest

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError


def test_archives_that_expand_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    np.savez_compressed(path, zeros=np.zeros(3 << 20, np.uint8))
    assert path.stat().st_size < 1 << 14
    assert whole_files.read_npz(path, "a state")["zeros"].size == 3 << 20
    monkeypatch.setattr(whole_files, "MAX_NPZ_BYTES", 2 << 20)
    with pytest.raises(InputError, match="expected a state .3 MiB, more than 2"):
        whole_files.read_npz(path, "a state")


def test_an_array_with_a_wrong_size_is_the_fault_of_the_file(tmp_path):
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("ids.npy", "w") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match="expected a state .an array larger than the file"):
        whole_files.read_npz(path, "a state")


def test_full_memory_is_not_the_fault_of_a_file(tmp_path):
    with pytest.raises(MemoryError), whole_files.errors_about(tmp_path / "mask.png", "a mask"):
        raise MemoryError
