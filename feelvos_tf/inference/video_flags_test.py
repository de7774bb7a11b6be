"""The flags that name a video and its masks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from absl import flags
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video, model_loading, video_flags
from feelvos_tf.media import video_writing
from feelvos_tf.testing import drawn_videos


def parsed(*arguments):
    """Returns the flags of a video from a parsed command line."""
    values = flags.FlagValues()
    result = video_flags.VideoFlags(values)
    values(["program", *map(str, arguments)])
    result.check()
    return result


def test_each_of_several_mask_files_is_one_object(tmp_path):
    for frame in range(2):
        image, mask = drawn_videos.draw(frame, [1, 2])
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"frames/{frame}.png")
    _, mask = drawn_videos.draw(0, [1, 2])
    paths = [tmp_path / f"{value}.png" for value in (1, 2)]
    for value, path in enumerate(paths, 1):
        Image.fromarray(np.where(mask == value, 255, 0).astype(np.uint8)).save(path)
    video = f"--video={tmp_path / 'frames'}"
    given = parsed(video, f"--mask={paths[0]},{paths[1]}").input_video()
    input_video.check(given)
    np.testing.assert_array_equal(given.first_mask(), mask)
    # A comma may also be part of a name.
    paths[0].rename(tmp_path / "a,b.png")
    given = parsed(video, f"--mask={tmp_path / 'a,b.png'}").input_video()
    np.testing.assert_array_equal(given.first_mask(), mask == 1)
    with pytest.raises(InputError, match="expected a mask .*, found no such file"):
        input_video.check(parsed(video, f"--mask={paths[1]},{paths[0]}").input_video())


def test_seconds_select_the_first_frame_at_that_time_or_later(tmp_path):
    with video_writing.writing_video(tmp_path / "irregular.mp4", 25) as write:
        for tick in (0, 12, 24, 28, 36, 48, 60):
            write(drawn_videos.draw(0, [1])[0], Fraction(tick, 100))
    given = parsed(
        f"--video={tmp_path / 'irregular.mp4'}", "--mask=mask.png", "--start=0.36s", "--end=0.5s"
    ).input_video()
    assert (given.selection.start, given.selection.end) == (4, 6)
    assert [frame.time for frame in given.frames] == [Fraction(36, 100), Fraction(48, 100)]


def test_two_masks_for_a_frame_are_refused(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "0.png")
    later = ("--mask_at=5:dog.png", "--mask_at=5:cat.png")
    with pytest.raises(InputError, match="--mask_at: expected one mask for frame 5, found two"):
        parsed(f"--video={tmp_path}", "--mask=mask.png", *later).input_video()


def test_the_first_frame_is_not_written_among_the_frames(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "0.png")
    given = parsed(f"--video={tmp_path}", f"--first_frame={tmp_path}/../{tmp_path.name}/first.png")
    with pytest.raises(InputError, match="first.png: expected a file outside .*would be a frame"):
        given.write_first_frame()
    assert [path.name for path in tmp_path.iterdir()] == ["0.png"]


def test_an_absurd_inference_size_is_rejected():
    values = flags.FlagValues()
    model_loading.ModelFlags(values)
    with pytest.raises(flags.IllegalFlagValueError, match="inference_size=100000"):
        values(["program", "--inference_size=100000"])
