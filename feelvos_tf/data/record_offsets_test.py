"""Records are found in complete, truncated and damaged files."""

from __future__ import annotations

import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.record_offsets import record_offsets

SIZES = (300, 20, 0, 5000)


@pytest.fixture
def records(tmp_path):
    """Returns the path of a record file, and where its records begin."""
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, size in enumerate(SIZES):
            writer.write(bytes([number]) * size)
    return path, [sum(SIZES[:n]) + 16 * n for n in range(len(SIZES))]


def test_record_offsets_follow_from_the_lengths(records):
    path, begins = records
    assert record_offsets(path) == begins


@pytest.mark.parametrize("number", range(len(SIZES)))
@pytest.mark.parametrize("byte", [0, 1, 7, 8, 11])
def test_one_wrong_byte_of_a_length_costs_one_record(records, number, byte):
    path, begins = records
    content = bytearray(path.read_bytes())
    content[begins[number] + byte] ^= 0x11
    path.write_bytes(content)
    reported = []
    assert record_offsets(path, reported.append) == begins[:number] + begins[number + 1 :]
    assert len(reported) == 1 and f"the length of record {number + 1} is corrupt" in reported[0]
    with pytest.raises(InputError, match=f"the length of record {number + 1} is corrupt"):
        record_offsets(path)


def test_a_truncated_file_has_the_records_before_its_end(records):
    path, begins = records
    content = path.read_bytes()
    for end in (len(content) - 1, begins[3] + 100, begins[3] + 5):
        path.write_bytes(content[:end])
        reported = []
        assert record_offsets(path, reported.append) == begins[:3]
        assert len(reported) == 1 and "the file ends inside record 4" in reported[0]


def test_other_files_give_one_line_errors(tmp_path):
    (tmp_path / "text").write_text("no records at all, but some text")
    for name, sentence in {
        "text": "length of record 1 is corrupt .is it a complete TFRecord file",
        "none": "found no such file",
        "": "found a folder",
    }.items():
        with pytest.raises(InputError, match=sentence):
            record_offsets(tmp_path / name)
