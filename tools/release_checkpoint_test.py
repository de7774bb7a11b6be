"""The programs turn a checkpoint of the 2019 release into the release's masks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from feelvos_tf.models import release_checkpoint
from feelvos_tf.testing.golden import build_rule_model

ROOT = Path(__file__).parents[1]


def run(*arguments: object) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_converted_exported_and_predicted_masks_are_the_release_s(tmp_path):
    release_checkpoint.write(
        build_rule_model("mobilenet_v2", 8), str(tmp_path / "model.ckpt"), 200004
    )
    out = run(
        "tools/convert_checkpoint.py",
        f"--tf1_checkpoint={tmp_path}/model.ckpt",
        "--gin_file=gin_configs/models/mobilenet_v2.gin",
        f"--model_dir={tmp_path}/converted",
    )
    assert "matched: 347 of the model's 347 variables" in out
    run(
        *("-m", "feelvos_tf.export", f"--model_dir={tmp_path}/converted"),
        f"--export_dir={tmp_path}/saved_model",
        "--gin_file=gin_configs/evaluation.gin",
    )
    clip = np.load(ROOT / "testdata/golden/forward_clip.npz")
    (tmp_path / "frames").mkdir()
    for i, image in enumerate(clip["images"]):
        Image.fromarray(image).save(tmp_path / f"frames/{i:05d}.png")
    Image.fromarray(clip["labels"][0].astype(np.uint8)).save(tmp_path / "mask.png")
    run(
        *("-m", "feelvos_tf.predict", f"--saved_model={tmp_path}/saved_model"),
        *(f"--video={tmp_path}/frames", f"--mask={tmp_path}/mask.png"),
        f"--output_dir={tmp_path}/masks",
    )
    golden = np.load(ROOT / "testdata/golden/forward_mobilenet_v2.npz")["scan_labels"]
    written = sorted((tmp_path / "masks").rglob("*.png"))
    assert len(written) == len(golden)
    for path, expected in zip(written[1:], golden[1:]):
        assert (np.array(Image.open(path)) != expected).mean() <= 0.001, path.name
