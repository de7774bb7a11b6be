import convert_youtube_objects as program
import numpy as np
import pytest
from PIL import Image

from feelvos_tf.data import datasets
from feelvos_tf.evaluation import protocols
from feelvos_tf.media import masks, pictures
from feelvos_tf.testing import drawn_videos, in_this_process

SHOT = "cat/data/0003/shots/012"


@pytest.fixture
def published(tmp_path):
    """Returns a folder with frames 1 to 25 of one shot, half-size masks of frames 3, 13 and 23, and
    a shot with a single mask."""
    for frame in range(1, 26):
        image, ids = drawn_videos.draw(frame % 10, [255], (96, 160))
        path = tmp_path / "frames" / SHOT / f"frame{frame:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        if frame % 10 == 3:
            path = tmp_path / "masks" / SHOT / "labels" / f"{frame:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids).resize((80, 48)).save(path, quality=70)
    single = tmp_path / "masks/cow/data/0019/shots/001/labels"
    single.mkdir(parents=True)
    Image.fromarray(ids).save(single / "00001.jpg")
    return tmp_path


def convert(root, *arguments):
    places = f"--frames={root}/frames", f"--masks={root}/masks", f"--output_dir={root}/new/yto"
    return in_this_process.run(program, *places, *arguments)


def test_shots_become_sequences_that_can_be_scored(published):
    done = convert(published)
    assert done.returncode == 0, done.stderr
    assert "1 sequence in" in done.stdout
    assert "skipped: cow-0019-001, with 1 annotated frame" in done.stdout + done.stderr
    (video,) = datasets.list_sequences(
        published / "new/yto", "youtube_objects", "val", "", None, "first"
    )
    assert video.name == "cat-0003-012"
    assert [path.stem for path in video.frames] == [f"{n:05d}" for n in range(3, 24)]
    assert pictures.read_image(video.frames[1]).shape == (48, 80, 3)
    assert set(np.unique(masks.read_annotation(video.masks[0]))) == {0, 255}
    (truth,) = protocols.dataset_ground_truths(published / "new/yto", "youtube_objects")
    assert [path.stem for path in truth.masks] == ["00013", "00023"]


def test_frames_may_be_next_to_the_masks_and_are_copied_if_sizes_agree(published):
    (published / "frames" / SHOT).rename(published / "masks" / SHOT / "images")
    for path in (published / "masks" / SHOT / "labels").iterdir():
        Image.fromarray(drawn_videos.draw(3, [255], (96, 160))[1]).save(path)
    assert convert(published).returncode == 0
    copied = published / "new/yto/JPEGImages/cat-0003-012/00004.jpg"
    original = published / "masks" / SHOT / "images/frame0004.jpg"
    assert copied.read_bytes() == original.read_bytes()


def test_a_missing_frame_or_folder_gives_one_sentence_and_leaves_no_files(published):
    (published / "frames" / SHOT / "frame0007.jpg").unlink()
    assert "expected frame 7 of cat-0003-012, found none" in convert(published).stderr
    assert not list((published / "new").iterdir())
    wrong = convert(published, f"--masks={published / 'frames'}")
    assert "expected folders */data/*/shots/*/labels, found none" in wrong.stderr


def test_masks_that_differ_in_size_are_refused(published):
    Image.new("L", (40, 24)).save(published / "masks" / SHOT / "labels/00003.jpg")
    assert (
        "00013.jpg: expected 40x24 pixels like earlier masks, found 80x48"
        in convert(published).stderr
    )
    assert not list((published / "new").iterdir())
