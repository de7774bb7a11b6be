"""TensorFlow Datasets gives the same training examples as our own records."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest
from absl import flags
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags, datasets, record_shards
from feelvos_tf.data.input_pipeline import training_dataset
from feelvos_tf.data.paper_clips import ClipSettings
from feelvos_tf.data.tfds import prepared
from feelvos_tf.media import masks

tfds = pytest.importorskip("tensorflow_datasets", reason="needs feelvos_tf[tfds]")


@pytest.fixture(scope="module")
def root(tmp_path_factory, request):
    """Returns a DAVIS 2017 folder with three of the bundled videos as both train and val."""
    folder = tmp_path_factory.mktemp("tfds") / "DAVIS"
    shutil.copytree(request.config.rootpath / "testdata", folder)
    names = (folder / "ImageSets/2017/train.txt").read_text().split()[:3]
    for split in ("train", "val"):
        (folder / f"ImageSets/2017/{split}.txt").write_text("\n".join(names) + "\n")
    return folder


def decoded(pattern):
    """Returns name -> [images, masks] of all records, as the order of shards is unspecified."""
    from feelvos_tf.data import tfrecords

    videos = {}
    for path, offset in tfrecords.find_videos(pattern):
        video = tfrecords.parse(tfrecords.read_record(path, offset))
        frames = [tfrecords.decode_frame(*pair) for pair in zip(video.images, video.masks)]
        videos[video.video_id.numpy().decode()] = [
            np.stack([np.asarray(frame[part]) for frame in frames]) for part in (0, 1)
        ]
    return videos


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys() and len(ours) == 3
    for name, parts in ours.items():
        for one, two in zip(parts, theirs[name]):
            np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def ours(root, tmp_path_factory):
    videos = datasets.list_sequences(root, split="train")
    folder = tmp_path_factory.mktemp("records")
    record_shards.write_shards(videos, folder, "train", 1)
    return f"{folder}/train-*"


def test_our_builder_prepares_the_same_examples(root, ours, tmp_path):
    from feelvos_tf.data.tfds import feelvos_videos  # noqa: F401 - Registers it.

    builder = tfds.builder("feelvos_videos/davis_2017_480p", data_dir=tmp_path)
    config = tfds.download.DownloadConfig(manual_dir=str(root))
    builder.download_and_prepare(download_config=config)
    assert len(tfds.load("feelvos_videos/davis_2017_480p", split="val", data_dir=tmp_path)) == 3
    theirs = f"tfds:feelvos_videos/davis_2017_480p?data_dir={tmp_path}"
    assert_equal(decoded(ours), decoded(theirs))
    spec = training_dataset(2, records=theirs, clips=ClipSettings(crop_size=(33, 33)), seed=1)
    batch = next(iter(spec))
    assert batch["images"].shape == [2, 3, 33, 33, 3]


def test_a_folder_of_your_own_may_hold_masks_of_colors(tmp_path):
    from feelvos_tf.data.tfds import feelvos_videos  # noqa: F401 - Registers it.

    (tmp_path / "own/a").mkdir(parents=True)
    for number, color in enumerate([(250, 9, 9), (9, 250, 9)]):
        Image.new("RGB", (24, 16)).save(tmp_path / f"own/a/{number}.jpg")
        Image.new("RGB", (24, 16), color).save(tmp_path / f"own/a/{number}.png")
    builder = tfds.builder("feelvos_videos/folder", data_dir=tmp_path / "prepared")
    config = tfds.download.DownloadConfig(manual_dir=str(tmp_path / "own"))
    builder.download_and_prepare(download_config=config)
    [example] = tfds.load("feelvos_videos/folder", split="train", data_dir=tmp_path / "prepared")
    found = [int(mask[0, 0, 0]) for mask in example["video"]["segmentations"]]
    assert found == [2, 1]


def test_the_davis_of_tfds_gives_the_same_examples(root, ours, tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import DownloadManager

    monkeypatch.setattr(
        DownloadManager, "download_and_extract", lambda *_: tfds.core.Path(root.parent)
    )
    builder = tfds.builder("davis/480p", data_dir=tmp_path, try_gcs=False)
    builder.download_and_prepare()
    theirs = f"tfds:davis/480p?data_dir={tmp_path}"
    assert_equal(decoded(ours), decoded(theirs))
    check_unpacked(theirs, root, tmp_path, monkeypatch)


def check_unpacked(pattern, root, tmp_path, monkeypatch):
    """Checks that --dataset_root=tfds:... is unpacked once, and into the same files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        flag_values = flags.FlagValues()
        chosen = dataset_flags.define(flag_values, "Folder.")
        flag_values(["program", f"--dataset_root={pattern}", "--year=2017"])
        found = chosen.choice().list_sequences()
        monkeypatch.setattr(prepared, "_unpack", None)
    (cache,) = (tmp_path / "cache/feelvos_tf/tfds").iterdir()
    assert cache in found[0].frames[0].parents
    expected = datasets.list_sequences(root)
    assert {video.name for video in found} == {video.name for video in expected}
    by_name = {video.name: video for video in expected}
    for video in found:
        for mine, other in zip(video.frames, by_name[video.name].frames):
            assert mine.read_bytes() == other.read_bytes()
        for mine, other in zip(video.masks, by_name[video.name].masks):
            np.testing.assert_array_equal(masks.read_annotation(mine), masks.read_annotation(other))
    flag_values["year"].unparse()
    flag_values(["program", "--dataset=youtube_vos"])
    with pytest.raises(
        InputError, match="tfds:.*: expected --dataset=davis_2017 or none, found youtube_vos"
    ):
        chosen.choice()
    flag_values(["program", "--dataset=davis_2017", "--split=test-dev"])
    with pytest.raises(InputError, match="found train, validation; download its folders"):
        chosen.choice()


def test_of_two_processes_that_unpack_at_once_the_faster_one_wins(tmp_path, monkeypatch):
    (tmp_path / "record").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(prepared, "record_files", lambda *_: [tmp_path / "record"])

    def unpack(files, folder, split):
        (folder / split).mkdir(parents=True)

    monkeypatch.setattr(prepared, "_unpack", unpack)
    cache = prepared.folder_of("tfds:any", "val")
    # The slower one has looked before the other finished.
    is_dir = pathlib.Path.is_dir
    monkeypatch.setattr(pathlib.Path, "is_dir", lambda path: path != cache and is_dir(path))
    assert prepared.folder_of("tfds:any", "val") == cache
    assert [path.name for path in cache.iterdir()] == ["val"]
    assert list(cache.parent.iterdir()) == [cache]


def test_a_process_that_is_faster_while_another_unpacks_wins(tmp_path, monkeypatch):
    (tmp_path / "record").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(prepared, "record_files", lambda *_: [tmp_path / "record"])

    def theirs(files, folder, split):
        (folder / "theirs").mkdir(parents=True)

    def ours(files, folder, split):
        (folder / "ours").mkdir(parents=True)
        monkeypatch.setattr(prepared, "_unpack", theirs)
        prepared.folder_of("tfds:any", split)

    monkeypatch.setattr(prepared, "_unpack", ours)
    cache = prepared.folder_of("tfds:any", "val")
    assert [path.name for path in cache.iterdir()] == ["theirs"]
    assert list(cache.parent.iterdir()) == [cache]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("tfds:no_such_data_set", "expected a data set of that name"),
        (
            "tfds:davis/480p?splits=train",
            "options: expected some of data_dir, split, found .splits",
        ),
        ("tfds:davis/480p?data_dir=/nowhere", "found none: it is not prepared"),
    ],
)
def test_a_missing_data_set_or_unknown_option_gives_a_one_line_error(pattern, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        prepared.record_files(pattern)
    assert "\n" not in str(caught.value)
