from __future__ import annotations

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
