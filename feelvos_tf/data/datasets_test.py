import json
import re
from pathlib import Path

import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def _davis(root: Path, frames: dict, masks: dict, split: str = "", year: str = "2017") -> Path:
    for name, count in frames.items():
        _touch(*(root / "JPEGImages/480p" / name / f"{i:05d}.jpg" for i in range(count)))
    for name, count in masks.items():
        _touch(*(root / "Annotations/480p" / name / f"{i:05d}.png" for i in range(count)))
    _touch(root / "ImageSets" / year / "val.txt")
    (root / "ImageSets" / year / "val.txt").write_text(split or "\n".join(frames) + "\n")
    return root


def test_frames_and_masks_are_paired_in_the_order_of_the_list(tmp_path):
    root = _davis(tmp_path, {"b": 3, "a": 2}, {"b": 3, "a": 2})
    b, a = datasets.list_sequences(root)
    assert (b.name, a.name) == ("b", "a")
    assert [p.stem for p in b.frames] == [p.stem for p in b.masks] == ["00000", "00001", "00002"]
    assert not b.binary_masks


def test_names_may_have_spaces_and_numbers_no_leading_zeros(tmp_path):
    _davis(tmp_path, {"my dog": 0, "b": 1}, {"b": 1})
    for i in range(1, 12):
        _touch(tmp_path / f"JPEGImages/480p/my dog/{i}.jpg")
        _touch(tmp_path / f"Annotations/480p/my dog/{i}.png")
    dog, _ = datasets.list_sequences(tmp_path)
    assert dog.name == "my dog"
    assert [p.stem for p in dog.frames] == [p.stem for p in dog.masks] == [*map(str, range(1, 12))]


def test_lines_with_path_pairs_name_each_sequence_once(tmp_path):
    lines = "".join(
        f"/JPEGImages/480p/{s}/0000{i}.jpg /Annotations/480p/{s}/0000{i}.png \n"
        for s in "xy"
        for i in range(2)
    )
    _davis(tmp_path, {"x": 2, "y": 2}, {"x": 2, "y": 2}, split=lines, year="480p")
    found = datasets.list_sequences(tmp_path, dataset="davis_2016")
    assert [s.name for s in found] == ["x", "y"]
    assert found[0].binary_masks


def test_only_the_first_mask_is_needed_for_prediction(tmp_path):
    root = _davis(tmp_path, {"a": 3}, {"a": 1})
    (a,) = datasets.list_sequences(root, require_masks="first")
    assert a.masks[0].name == "00000.png"
    assert a.masks[1:] == (None, None)
    with pytest.raises(
        InputError, match="mask of frame 00001, found none .3 images in .*, 1 masks in"
    ):
        datasets.list_sequences(root)


def test_sequences_without_masks_are_listed_on_request(tmp_path):
    root = _davis(tmp_path, {"a": 2}, {})
    assert datasets.list_sequences(root, require_masks="none")[0].masks == (None, None)
    with pytest.raises(
        InputError, match="mask of the first frame 00000, found none .2 images in .*, 0 masks in"
    ):
        datasets.list_sequences(root, require_masks="first")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "davis_2018"}, "dataset: expected some of davis_2016, .* found 'davis_2018'"),
        ({"split": "train"}, "train.txt does not exist .splits found next to it: val"),
        ({"resolution": "240p"}, "240p: expected the folder of davis_2017's frames, found no such"),
        (
            {"sequences": ["a", "zebra"]},
            "sequences of the split 'val': expected some of a, found 'zebra'",
        ),
        ({"require_masks": "some"}, "require_masks: expected some of all, first, none, found"),
    ],
)
def test_invalid_arguments_are_reported(tmp_path, arguments, message):
    root = _davis(tmp_path, {"a": 2}, {"a": 2})
    with pytest.raises(InputError, match=message):
        datasets.list_sequences(root, **arguments)


def test_broken_folders_are_reported(tmp_path):
    with pytest.raises(InputError, match="nowhere: expected a data set, found no such folder"):
        datasets.list_sequences(tmp_path / "nowhere")
    root = _davis(tmp_path / "listed", {"a": 2}, {"a": 2}, split="a\nghost\n")
    with pytest.raises(InputError, match="lists the sequence 'ghost'"):
        datasets.list_sequences(root)
    root = _davis(tmp_path / "surplus", {"a": 2}, {"a": 3})
    with pytest.raises(InputError, match="mask 00002.png has no image"):
        datasets.list_sequences(root)
    root = _davis(tmp_path / "empty", {"a": 1}, {"a": 1})
    (root / "JPEGImages/480p/a/00000.jpg").unlink()
    with pytest.raises(InputError, match="holds no .jpg frame"):
        datasets.list_sequences(root)


def _youtube_vos(root: Path, listed: list) -> Path:
    base = root / "valid"
    _touch(*(base / "JPEGImages/v" / f"{i:05d}.jpg" for i in (0, 5, 10)))
    _touch(*(base / "Annotations/v" / f"{i:05d}.png" for i in (0, 5)))
    objects = {"1": {"frames": ["00000", "00005"]}, "2": {"frames": listed}}
    (base / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    return root


def test_youtube_vos_lists_the_frames_of_each_object(tmp_path):
    root = _youtube_vos(tmp_path, ["00005", "00010"])
    (v,) = datasets.list_sequences(root, dataset="youtube_vos", require_masks="first")
    assert v.object_frames == {1: (0, 1), 2: (1, 2)}
    assert [mask and mask.stem for mask in v.masks] == ["00000", "00005", None]


def test_youtube_vos_meta_must_match_the_frames(tmp_path):
    root = _youtube_vos(tmp_path, ["00007"])
    with pytest.raises(InputError, match="object 2 of meta.json in frames .*v, found 00007"):
        datasets.list_sequences(root, dataset="youtube_vos", require_masks="first")
    objects = {"1": {"frames": []}}
    (root / "valid/meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    with pytest.raises(InputError, match="v: expected object 1 of meta.json .*, found none"):
        datasets.list_sequences(root, dataset="youtube_vos", require_masks="first")
    (root / "valid/meta.json").write_text('{"videos": {"v": {"objects": {"1": {}}}}}')
    with pytest.raises(InputError, match="expected a YouTube-VOS meta file"):
        datasets.list_sequences(root, dataset="youtube_vos", require_masks="first")
    (root / "valid/meta.json").write_text('{"clips": 3}')
    with pytest.raises(InputError, match="expected a YouTube-VOS meta file .*no 'videos'"):
        datasets.list_sequences(root, dataset="youtube_vos", require_masks="first")


def test_youtube_objects_starts_at_its_first_mask(tmp_path):
    _touch(*(tmp_path / "JPEGImages/cat-1" / f"{i:05d}.jpg" for i in range(4)))
    _touch(*(tmp_path / "Annotations/cat-1" / f"{i:05d}.png" for i in (1, 3)))
    (cat,) = datasets.list_sequences(tmp_path, dataset="youtube_objects", require_masks="first")
    assert [frame.stem for frame in cat.frames] == ["00001", "00002", "00003"]
    assert [mask and mask.stem for mask in cat.masks] == ["00001", None, "00003"]
    assert cat.binary_masks


def test_real_davis_is_listed(real_data):
    train = datasets.list_sequences(real_data / "davis2016", dataset="davis_2016", split="train")
    assert len(train) == 30
    # Every second frame of 26 sequences, and every frame of the four used to choose settings.
    assert sum(len(sequence.frames) for sequence in train) == 1153


def test_a_new_data_set_is_one_entry(tmp_path, monkeypatch):
    layout = datasets.DatasetLayout(
        split_files=("lists/{resolution}-{split}.lst",), has_split_folders=True, binary_masks=True
    )
    monkeypatch.setitem(datasets.DATASETS, "mine", layout)
    _touch(tmp_path / "test/JPEGImages/a/0.jpg", tmp_path / "test/Annotations/a/0.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/480p-test.lst").write_text("a\n")
    (a,) = datasets.list_sequences(tmp_path, "mine", "test")
    assert (a.name, len(a.frames), a.binary_masks) == ("a", 1, True)
    with pytest.raises(InputError, match="split file .*480p-val.lst does not exist"):
        (tmp_path / "val").mkdir()
        (tmp_path / "val/JPEGImages").mkdir()
        datasets.list_sequences(tmp_path, "mine", "val")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"..", "expected sequence names, found '..'"),
        (b".", "expected sequence names, found '.'"),
        (b"x/../..", "expected sequence names, found '..'"),
        (b"/", "expected sequence names, found ''"),
        (b"/etc", "expected sequence names, found ''"),
        (b"be\x00ar", "expected sequence names, found 'be"),
        ("b\u00e4r".encode("latin-1"), "a list of sequences in UTF-8"),
        ("bear".encode("utf-16"), "a list of sequences in UTF-8"),
    ],
)
def test_a_list_with_unsafe_names_or_that_is_not_text_is_refused(tmp_path, content, sentence):
    (tmp_path / "JPEGImages/480p").mkdir(parents=True)
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_bytes(content)
    with pytest.raises(InputError, match="val.txt: .*" + re.escape(sentence)):
        datasets.list_sequences(tmp_path, "davis_2017")


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"videos": {"v": {"objects": {value: {"frames": []}}}}})
        for value in ("0", "-1", "255", "300", "1.5", "", "\u0661" * 9, "9" * 5000)
    ]
    + [
        "[" * 100000,
        "\x00",
        '{"videos": 3}',
        '{"videos": {"v": {"objects": {"1": {"frames": 3}}}}}',
    ],
)
def test_a_malformed_meta_file_is_refused_with_a_one_line_error(tmp_path, content):
    (tmp_path / "valid/JPEGImages/v").mkdir(parents=True)
    (tmp_path / "valid/meta.json").write_text(content)
    with pytest.raises(InputError, match="meta.json: expected a YouTube-VOS meta file") as error:
        datasets.list_sequences(tmp_path, "youtube_vos", "valid", require_masks="none")
    assert "\n" not in str(error.value)
