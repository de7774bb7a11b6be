"""Folders that hold a SavedModel of this project, and those that do not."""

from __future__ import annotations

import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import saved_model
from feelvos_tf.testing import color_model


def test_fingerprint_changes_with_weights_but_not_with_the_place(tmp_path):
    first = color_model.save(tmp_path / "first")
    other = color_model.save(tmp_path / "other", sharpness=0.02)
    assert saved_model.fingerprint(first) != saved_model.fingerprint(other)
    moved = tmp_path / "moved"
    before = saved_model.fingerprint(other)
    other.rename(moved)
    assert saved_model.fingerprint(moved) == before


def test_what_is_no_model_is_told_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="missing: expected the folder of a SavedModel, found no"):
        saved_model.load(tmp_path / "missing")
    with pytest.raises(InputError, match="found a folder without saved_model.pb"):
        saved_model.load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded as a SavedModel"):
        saved_model.load(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"))
    with pytest.raises(InputError, match="foreign: .*without its functions start and step"):
        saved_model.load(tmp_path / "foreign")
