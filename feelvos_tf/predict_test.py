"""The program from command line to files, on drawn videos."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from unittest.mock import ANY

import av
import gin
import numpy as np
import pytest
from absl import flags
from PIL import Image

import feelvos_tf
from feelvos_tf import configurables  # noqa: F401
from feelvos_tf import predict as program
from feelvos_tf.core import gin_settings
from feelvos_tf.inference import command_line, model_loading
from feelvos_tf.media import masks, pictures, video
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.models.weights import checkpoint_of
from feelvos_tf.testing import color_model, drawn_videos, in_this_process, without_tensorflow


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return color_model.save(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def davis_root(tmp_path_factory):
    sequences = {"bear": [1, 5], "cows": [2]}
    return drawn_videos.write_davis(tmp_path_factory.mktemp("davis") / "root", sequences)


def predict(*arguments: object, pipe: bytes | None = None) -> subprocess.CompletedProcess:
    result = subprocess.run(
        [sys.executable, "-m", "feelvos_tf.predict", *map(str, arguments)],
        capture_output=True,
        input=pipe,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    result.stdout, result.stderr = result.stdout.decode(), result.stderr.decode()
    return result


def predict_here(*arguments: object) -> subprocess.CompletedProcess:
    return in_this_process.run(program, *arguments)


def error_of(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 1, result.stderr
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in result.stderr
    return line


def agreement(result: np.ndarray, expected: np.ndarray) -> float:
    return float((result == expected).mean())


def test_split_of_a_data_set_becomes_indexed_masks_and_overlays(saved_model, davis_root, tmp_path):
    output = tmp_path / "out"
    arguments = [
        f"--saved_model={saved_model}",
        f"--dataset_root={davis_root}",
        "--year=2017",
        "--split=val",
        f"--output_dir={output}",
    ]
    first = predict(*arguments, f"--overlays={tmp_path / 'look'}")
    assert first.returncode == 0, first.stderr
    assert "8 frames in " in first.stdout and f"masks: {output}" in first.stdout
    for name in ("bear", "cows"):
        truth = davis_root / "Annotations/480p" / name
        assert sorted(path.name for path in (output / name).glob("*.png")) == [
            f"{frame:05d}.png" for frame in range(5)
        ]
        given = masks.read_annotation(truth / "00000.png")
        np.testing.assert_array_equal(masks.read_annotation(output / name / "00000.png"), given)
        with Image.open(output / name / "00004.png") as mask:
            assert mask.mode == "P"
            assert (np.array(mask.getpalette()).reshape(-1, 3) == masks.DAVIS_PALETTE).all()
            assert agreement(np.array(mask), masks.read_annotation(truth / "00004.png")) > 0.99
    looks = sorted(path.name for path in (tmp_path / "look").iterdir())
    assert looks == ["bear.jpg", "bear.mp4", "cows.jpg", "cows.mp4"]
    again = predict_here(*arguments)
    assert "2 of 2 sequences were already complete" in again.stdout
    other_model = color_model.save(tmp_path / "other", sharpness=0.02)
    arguments[0] = f"--saved_model={other_model}"
    other = predict_here(*arguments, "--inference_size=24", "--sequences=cows")
    assert other.returncode == 0 and "4 frames in " in other.stdout
    assert json.loads((output / "cows" / "prediction.json").read_text())["settings"] == {
        "saved_model": model_loading.saved_model_fingerprint(other_model),
        "inference_size": 24,
        "window": 0.0,
        "clip": ANY,
    }


def test_a_video_becomes_masks_and_an_overlay(saved_model, tmp_path):
    images, given = zip(*(drawn_videos.draw(frame, [1, 2], (64, 96)) for frame in range(6)))
    drawn_videos.write_video(tmp_path / "video.mp4", images, 24)
    masks.write_mask(tmp_path / "first.png", given[0])
    result = predict_here(
        f"--saved_model={saved_model}",
        f"--video={tmp_path / 'video.mp4'}",
        f"--mask={tmp_path / 'first.png'}",
        f"--output_dir={tmp_path / 'out'}",
        f"--overlay={tmp_path / 'out' / 'overlay.mp4'}",
    )
    assert result.returncode == 0, result.stderr
    assert "video.mp4: objects 1, 2" in result.stdout
    for frame in range(6):
        ids = masks.read_annotation(tmp_path / "out" / f"{frame:05d}.png")
        assert agreement(ids, given[frame]) > 0.98
    assert len(list(video.open_frames(tmp_path / "out" / "overlay.mp4"))) == 6


def test_part_of_a_video_with_masks_at_two_frames(saved_model, tmp_path):
    images, given = [], []
    for frame in range(12):
        image, mask = drawn_videos.draw(frame, [1, 2] if frame >= 7 else [1], (64, 96))
        images.append(image)
        given.append(mask)
    drawn_videos.write_video(tmp_path / "video.mp4", images, 24)
    part = [f"--video={tmp_path / 'video.mp4'}", "--start=3", "--end=11", "--every=2"]
    first = predict_here(*part, "--max_side=48", f"--first_frame={tmp_path / 'first_frame.png'}")
    assert first.returncode == 0 and "48x32 pixels: draw" in first.stdout, first.stderr
    assert pictures.read_image(tmp_path / "first_frame.png").shape == (32, 48, 3)
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    for name, frame in (("first", 3), ("later", 7)):
        Image.fromarray(colors[given[frame]]).save(tmp_path / f"{name}.png")
    arguments = [
        f"--saved_model={saved_model}",
        *part,
        f"--mask={tmp_path / 'first.png'}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    result = predict_here(*arguments, f"--mask_at=7:{tmp_path / 'later.png'}")
    assert result.returncode == 0, result.stderr
    assert (
        "the masks were read as 1 = (255, 0, 0), 2 = (0, 0, 255)" in result.stderr + result.stdout
    )
    names = [f"{frame:05d}" for frame in (3, 5, 7, 9)]
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.png")) == names
    for name in names:
        ids = masks.read_annotation(tmp_path / "out" / f"{name}.png")
        assert agreement(ids, given[int(name)]) > 0.98
        assert (2 in ids) == (int(name) >= 7)
    for more, sentence in {
        "--mask_at=8:later.png": "a selected frame after the first (3), found one for frame 8",
        "--mask_at=later.png": "expected FRAME:MASK",
        "--start=4,5": "--start: expected a frame's number or seconds",
        "--end=2": "--end: expected a frame after",
        "--raw_size=8x8": "are for --video=-",
    }.items():
        assert sentence in error_of(predict_here(*arguments, more)), more


def test_a_tree_of_videos_one_of_which_is_broken(saved_model, tmp_path):
    for name in ("a", "more/b"):
        images, given = zip(*(drawn_videos.draw(frame, [1, 2]) for frame in range(4)))
        drawn_videos.write_video(tmp_path / "tree" / f"{name}.mp4", images, 24)
        masks.write_mask(tmp_path / "tree" / f"{name}.png", given[0])
    masks.write_mask(tmp_path / "tree/c.png", given[0])
    (tmp_path / "tree/c.mp4").write_text("no video")
    arguments = [
        f"--saved_model={saved_model}",
        f"--videos={tmp_path / 'tree'}",
        f"--output_dir={tmp_path / 'out'}",
        "--save=csv",
    ]
    result = predict_here(*arguments)
    assert error_of(result) == "error: 1 of 3 videos failed"
    assert "failed: c: " in result.stderr and "expected a video" in result.stderr
    for name in ("a", "more/b"):
        assert len(list((tmp_path / "out" / name).glob("*.png"))) == 4
        assert (tmp_path / "out" / name / "objects.csv").is_file()
    (tmp_path / "tree/c.mp4").unlink()
    again = predict_here(*arguments)
    assert again.returncode == 0 and "2 of 2 sequences were already complete" in again.stdout
    error = error_of(predict_here(*arguments, "--mask=a.png"))
    assert "--videos cannot be combined with --mask" in error


def test_frames_through_a_pipe_become_masks(saved_model, tmp_path):
    images, given = zip(*(drawn_videos.draw(frame, [1, 2]) for frame in range(5)))
    masks.write_mask(tmp_path / "first.png", given[0])
    result = predict(
        f"--saved_model={saved_model}",
        "--video=-",
        "--raw_size=80x48",
        f"--mask={tmp_path / 'first.png'}",
        f"--output_dir={tmp_path / 'out'}",
        f"--overlay={tmp_path / 'overlay.mp4'}",
        pipe=np.stack(images).tobytes(),
    )
    assert result.returncode == 0, result.stderr
    for frame in range(5):
        ids = masks.read_annotation(tmp_path / "out" / f"{frame:05d}.png")
        assert agreement(ids, given[frame]) == 1
    assert len(list(video.open_frames(tmp_path / "overlay.mp4"))) == 5


def test_a_truncated_video_keeps_its_masks_but_is_not_complete(saved_model, tmp_path):
    images, given = zip(*(drawn_videos.draw(frame, [1, 2]) for frame in range(12)))
    with av.open(str(tmp_path / "cut.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=24)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuvj420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / "cut.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) * 3 // 4])
    masks.write_mask(tmp_path / "first.png", given[0])
    error = error_of(
        predict_here(
            f"--saved_model={saved_model}",
            f"--video={tmp_path / 'cut.avi'}",
            f"--mask={tmp_path / 'first.png'}",
            f"--output_dir={tmp_path / 'out'}",
        )
    )
    assert "cut.avi: the video is cut off after" in error
    assert "masks before it are in" in error and not (tmp_path / "out").exists()
    kept = len(list((tmp_path / "out.partial").glob("*.png")))
    assert 1 < kept < 12 and f"the {kept} masks" in error
    assert json.loads((tmp_path / "out.partial/prediction.json").read_text())["complete"] is False


def test_the_bundled_model_segments_a_clip_without_further_arguments(
    testdata, tmp_path, bundled_model
):
    frames = list(video.open_frames(testdata / "bunny.mp4"))[:2]
    drawn_videos.write_video(tmp_path / "clip.mp4", frames, 25)
    arguments = [
        f"--video={tmp_path / 'clip.mp4'}",
        f"--mask={testdata / 'bunny.png'}",
        f"--output_dir={tmp_path / 'masks'}",
        f"--overlay={tmp_path / 'overlay.mp4'}",
    ]
    given = masks.read_annotation(testdata / "bunny.png")
    for run, more, size, window in (
        (predict, [], model_loading.bundled_inference_size(), model_loading.bundled_window()),
        (predict_here, ["--fast"], 240, 1.0),
    ):
        result = run(*arguments, *more)
        assert result.returncode == 0, result.stderr
        stamp = json.loads((tmp_path / "masks/prediction.json").read_text())
        assert stamp["settings"] == {
            "saved_model": model_loading.bundled_fingerprint(),
            "inference_size": size,
            "window": window,
            "clip": ANY,
        }
        assert (tmp_path / "overlay.mp4").is_file()
        ids = masks.read_annotation(tmp_path / "masks/00001.png")
        assert np.sum((ids == 1) & (given == 1)) / np.sum((ids == 1) | (given == 1)) > 0.5


def test_a_copy_of_the_package_without_weights_names_the_flag_it_needs(tmp_path):
    package = pathlib.Path(feelvos_tf.__file__).parent
    ignored = shutil.ignore_patterns("*_test.py", "__pycache__", "pretrained")
    shutil.copytree(package, tmp_path / "feelvos_tf", ignore=ignored)
    result = subprocess.run(
        [sys.executable, "-m", "feelvos_tf.predict", "--video=a", "--mask=b", "--output_dir=c"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert "no trained model is bundled here" in error_of(result)
    assert "--saved_model" in error_of(result)


def test_object_of_youtube_vos_that_appears_later_is_followed(saved_model, tmp_path):
    base, truth = tmp_path / "root" / "valid", []
    for frame in range(5):
        image, mask = drawn_videos.draw(frame, [1, 4] if frame >= 2 else [1])
        path = base / "JPEGImages" / "dog" / f"{5 * frame:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=98)
        if frame in (0, 2):
            masks.write_mask(base / "Annotations" / "dog" / f"{5 * frame:05d}.png", mask)
        truth.append(mask)
    names = [f"{5 * frame:05d}" for frame in range(5)]
    objects = {"1": {"frames": names}, "4": {"frames": names[2:]}}
    (base / "meta.json").write_text(json.dumps({"videos": {"dog": {"objects": objects}}}))
    result = predict_here(
        f"--saved_model={saved_model}",
        f"--dataset_root={tmp_path / 'root'}",
        "--dataset=youtube_vos",
        f"--output_dir={tmp_path / 'out'}",
    )
    assert result.returncode == 0, result.stderr
    assert "dog: objects 1, 4" in result.stdout
    for name, expected in zip(names, truth):
        ids = masks.read_annotation(tmp_path / "out" / "dog" / f"{name}.png")
        assert agreement(ids, expected) > 0.99
        assert (4 in ids) == (4 in expected)


@pytest.fixture
def run_folder(tmp_path, few_blocks):
    """Returns the folder of a training run with a small network."""
    settings = ["MobileNetV2.depth_multiplier = 0.1", "Feelvos.backbone = @MobileNetV2()"]
    gin_settings.parse([], [*settings, "Feelvos.atrous_rates = ()"])
    model = Feelvos()
    model.create_variables()
    checkpoint_of(release_names(model)).save(str(tmp_path / "run/ckpt"))
    gin_settings.save_operative(tmp_path / "run")
    yield tmp_path / "run"
    gin.clear_config()


def test_a_run_s_model_segments_with_or_without_fine_tuning_and_its_files_stay_the_same(
    run_folder, eagerly
):
    image = np.random.default_rng(0).integers(0, 255, (80, 96, 3), np.uint8)
    mask = np.zeros((80, 96), np.uint8)
    mask[20:70, 20:70] = 4
    before = {path.name: path.read_bytes() for path in run_folder.iterdir()}
    identities, results = set(), []
    for steps in (0, 2):
        choice = program._choose_run(str(run_folder), None, None, [])
        identities.add(choice.identity)
        predictor = program._load_network(str(run_folder), steps, choice)
        predictor.start(image, mask)
        results.append(predictor.embeddings)
    assert len(identities) == 1 and len(identities.pop()) == 16
    assert results[0].shape == results[1].shape and (results[0] != results[1]).any()
    assert {path.name: path.read_bytes() for path in run_folder.iterdir()} == before


def test_help_shows_every_flag_of_the_program_in_groups_on_a_page_or_two():
    shown = predict("--help").stdout
    for flag in ("saved_model", "dataset_root", "split", "video", "mask", "output_dir", "overlays"):
        assert f"--{flag}:" in shown or f"--{flag}=" in shown or f"  --{flag}" in shown, flag
    titles = ["One video:", "Which of its frames:", "What to write:", "The model:"]
    assert [line for line in shown.splitlines() if line in titles] == titles
    assert len(shown.splitlines()) < 110


def test_two_programs_can_share_the_flags_in_one_process():
    first, second = flags.FlagValues(), flags.FlagValues()
    for values in (first, second):
        command_line.CommandLine(values)
    assert "output_dir" in first and "dataset_root" in second
    assert "output_dir" not in flags.FLAGS and "overlays" not in flags.FLAGS


def test_a_wrong_flag_is_reported_without_waiting_for_tensorflow(saved_model):
    for arguments, sentence in {
        (): "expected either --dataset_root",
        ("--saved_model=none",): "none/saved_model.pb: expected a SavedModel",
        (
            f"--saved_model={saved_model}",
            "--dataset_root=none",
            "--output_dir=o",
        ): "none: expected a data",
        (
            f"--saved_model={saved_model}",
            "--model_dir=run",
        ): "--model_dir: expected the bundled model",
        (f"--saved_model={saved_model}", "--finetune_steps=9"): "SavedModel cannot be trained",
        (
            f"--saved_model={saved_model}",
            "--distance_maps=maps",
        ): "--distance_maps: expected the bundled model or a training run, found --saved_model",
        ("--model_dir=none",): "none/operative_config.gin: expected the settings",
    }.items():
        result = without_tensorflow.run("feelvos_tf.predict", *arguments)
        assert sentence in error_of(result)


def test_wrong_flags_and_data_are_reported_in_one_sentence_without_output(
    saved_model, davis_root, tmp_path
):
    model, root = f"--saved_model={saved_model}", f"--dataset_root={davis_root}"
    output = f"--output_dir={tmp_path / 'out'}"
    video_flag, mask_flag = f"--video={davis_root}/JPEGImages/480p/bear", "--mask=first.png"
    for arguments, sentence in {
        (
            f"--saved_model={tmp_path}/none",
            root,
            output,
        ): "none/saved_model.pb: expected a SavedModel",
        (model, output): "expected either --dataset_root",
        (model, root, video_flag, output): "expected either --dataset_root",
        (model, video_flag, output): "--video with either --mask",
        (model, root, mask_flag, output): "--video with either --mask",
        (model, root): "expected --output_dir",
        (
            model,
            root,
            output,
            "--overlay=o.mp4",
        ): "--overlays=FOLDER with many videos, found --overlay",
        (model, video_flag, mask_flag, output, "--overlay=o.gif"): "o.gif: expected a name that",
        (
            model,
            video_flag,
            mask_flag,
            output,
        ): "first.png: expected a mask (PNG or JSON), found no such",
        (model, root, output, "--sequences=dog"): "found 'dog'",
        (model, f"--dataset_root={tmp_path}/none", output): "none: expected a data set, found",
        (model, f"--video={tmp_path}/no.mp4", mask_flag, output): "no.mp4: expected a video, found",
        (
            model,
            root,
            "--sequences=bear",
            f"--output_dir={davis_root}/JPEGImages/480p",
        ): "bear holds files that are no",
    }.items():
        assert sentence in error_of(predict_here(*arguments)), arguments
    assert not (tmp_path / "out").exists()


def test_settings_of_fine_tuning_reach_it_with_the_bundled_model():
    setting = ("FineTuning.learning_rate = 0.5",)
    choice = model_loading.ModelChoice(None, 160, "identity", 0.0, setting)
    assert program._load_network(None, 1, choice)._training._settings.learning_rate == 0.5
