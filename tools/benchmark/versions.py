"""Compares the numerical results of two installations.

    python3.11 tools/benchmark/versions.py --output=2.15.npz
    python3.13 tools/benchmark/versions.py --output=2.21.npz
    python3.13 tools/benchmark/versions.py --compare=2.15.npz,2.21.npz

Both compute the same frames and training step with the same weights, those of the golden arrays
(testdata/golden); each frame gets the release's labels of the previous one. The last command prints
a table of the largest differences.
"""

from __future__ import annotations

import numpy as np

from feelvos_tf.core import atomic_files, cli, gin_settings, whole_files
from feelvos_tf.core.errors import InputError

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_OUTPUT = _DEFINE.string("output", "File to write the results of this installation to.")
_COMPARE = _DEFINE.comma_list("compare", "Two such files.", [])
_GOLDEN = gin_settings.PROJECT_ROOT / "testdata/golden"
# Softmax ignores a common offset of all logits, so this gradient is only rounding noise.
_WITHOUT_GRADIENT = "logits/semantic/biases"


def maps(variant: str) -> dict[str, np.ndarray]:
    """Returns the network's outputs for the golden clip, stacked over its frames."""
    import tensorflow as tf

    from feelvos_tf.core.resizing import resize_nearest
    from feelvos_tf.models import object_labels
    from feelvos_tf.models.feelvos import Previous
    from feelvos_tf.models.global_matching import prepare_reference
    from feelvos_tf.testing.golden import NUM_OBJECTS, rule_model

    model = rule_model(variant, 8)
    features = model.extract(np.load(_GOLDEN / "forward_clip.npz")["images"])
    labels = np.load(_GOLDEN / f"forward_{variant}.npz")["scan_labels"]
    embeddings = features.embeddings
    indices = resize_nearest(tf.constant(labels, tf.int32), embeddings.shape[1:3])
    reference = prepare_reference(embeddings[0], indices[0], NUM_OBJECTS)
    outputs = []
    for i in range(1, len(labels)):
        masks = object_labels.one_hot(indices[i - 1], NUM_OBJECTS)
        previous = Previous(embeddings[i - 1], indices[i - 1], masks)
        current = features.decoder_features[i], embeddings[i]
        outputs.append(model.segment(*current, reference, previous))
    logits = np.stack([output.logits[..., 0] for output in outputs])
    return {
        "decoder features": features.decoder_features.numpy(),
        "embeddings": features.embeddings.numpy(),
        "global distance maps": np.stack([output.global_map for output in outputs]),
        "local distance maps": np.stack([output.local_map for output in outputs]),
        "logits": logits,
        "probabilities": tf.nn.softmax(logits, axis=1).numpy(),
    }


def training_step() -> dict[str, np.ndarray]:
    """Returns the loss and gradient norms of xception_65 without dropout."""
    import tensorflow as tf

    from feelvos_tf.models.release_checkpoint import release_names
    from feelvos_tf.testing.golden import NUM_OBJECTS, build_rule_model
    from feelvos_tf.training.optimizers import MomentumOptimizer
    from feelvos_tf.training.train_step import Objective, TrainState, TrainStep

    model = build_rule_model("xception_65", 16)
    model.aspp.dropout = lambda x, seed: x
    release = np.load(_GOLDEN / "train_step.npz")
    batch = {
        "images": tf.constant(release["images"][np.newaxis], tf.float32),
        "labels": tf.constant(release["labels"][np.newaxis], tf.int32),
        "num_objects": tf.constant([NUM_OBJECTS]),
    }
    learned = {n: v for n, v in release_names(model).items() if v.trainable}
    state = TrainState(tf.Variable(0, dtype=tf.int64), MomentumOptimizer(learned))
    train_step = TrainStep(model, learned, state, 200_000, Objective(weight_decay=0.00004))
    gradients, result = train_step.gradients(batch)
    names = sorted(name for name in gradients if name != _WITHOUT_GRADIENT)
    return {
        "loss": result.scalars["loss"].numpy(),
        "norms of gradients, each": np.array([tf.norm(gradients[name]) for name in names]),
    }


def difference(name: str, a: np.ndarray, b: np.ndarray) -> float:
    """Returns the largest difference relative to the largest value; for norms, to each value."""
    scale = np.abs(a) if name.endswith("each") else np.abs(a).max()
    return float(np.max(np.abs(a - b) / scale))


def compute() -> dict[str, np.ndarray]:
    """Returns name -> array to compare, including TensorFlow's version."""
    import tensorflow as tf

    arrays = {
        f"{variant}: {name}": value
        for variant in ("xception_65", "mobilenet_v2")
        for name, value in maps(variant).items()
    }
    arrays.update({f"training step: {n}": value for n, value in training_step().items()})
    return {"version": np.array(tf.__version__), **arrays}


def read(path: str) -> dict[str, np.ndarray]:
    """Returns the arrays that an installation wrote.

    Raises:
      InputError: the file is missing, or was not written by this program.
    """
    what = "a file that --output wrote"
    arrays = whole_files.read_npz(path, what)
    if "version" not in arrays:
        raise InputError(f"{path}: expected {what}, found {', '.join(arrays)}")
    return arrays


def main() -> None:
    """Writes the results of this installation, or compares those of two."""
    if _OUTPUT.value:
        arrays = compute()
        # Given a path, NumPy would add a suffix to the name.
        with atomic_files.replacing(_OUTPUT.value) as path, path.open("wb") as file:
            np.savez_compressed(file, **arrays)
    elif len(_COMPARE.value) == 2:
        first, second = map(read, _COMPARE.value)
        print(f"| compared | TensorFlow {first['version']} and {second['version']} |\n|---|---|")
        for name, value in first.items():
            if name != "version":
                print(f"| {name} | {difference(name, value, second[name]):.1e} |")
    else:
        raise InputError("expected --output=FILE.npz or --compare=FILE.npz,FILE.npz, found neither")


if __name__ == "__main__":
    cli.run(main)
