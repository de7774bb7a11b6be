"""Caches the bundled model's functions as graphs in a file, so that processes start faster.

Building the network, tracing `start` and `step` and optimizing their graphs takes longer than
running the first frames. The result is the same in every process: graphs with the weights as
constants. The first process that loads the model writes them to `~/.cache/feelvos_tf` (or to the
folder in FEELVOS_CACHE; an empty value disables the cache); later processes read them. A different
model, TensorFlow, processor or network code gets a different file. With a GPU there is no cache,
because these graphs are optimized for CPUs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from feelvos_tf.core import atomic_files, cli, whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.model_loading import fingerprint

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor

FOLDER = "FEELVOS_CACHE"
_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# Subpackages whose code affects the graphs.
_ROOMS = ("core", "models", "inference")
_SUFFIX = ".graphs.npz"
_KEPT = 6  # Files of 33 MB, for a few models or TensorFlow versions.
_PROCESSOR = "/job:localhost/replica:0/task:0/device:CPU:0"
# Side of the image with which the graphs are run once, to check and to initialize them.
_TRIED_SIZE = 65


class CachedPredictor:
    """A `Predictor` whose functions for videos and for clicks come from a file.

    The first use of any other attribute builds the network.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], build: Callable[[], Predictor]):
        self.start, step_graph = _Graph(arrays, "start"), _Graph(arrays, "step")

        def step(image: Any, state: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
            results = step_graph(image, state)
            return results.pop("ids"), results.pop("probabilities"), results

        image, *state = step_graph.specs
        step.input_signature = [image, {spec.name: spec for spec in state}]
        self.step = step
        # Few programs take clicks: these graphs are imported when they are needed.
        kept = {n: array for n, array in arrays.items() if not n.startswith(("start", "step"))}
        self._of_clicks = functools.cache(functools.partial(_Graph, kept))
        self._build = build
        self._lock = threading.Lock()
        self._built: Predictor | None = None

    def features(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Predictor.features`."""
        return tuple(self._of_clicks("features")(image).values())

    def segment_marked(self, *arguments: np.ndarray) -> np.ndarray:
        """See `Predictor.segment_marked`."""
        return self._of_clicks("segment_marked")(*arguments)["log_odds"]

    def __getattr__(self, name: str) -> Any:
        """Returns this attribute of the network's predictor."""
        if name.startswith("__"):  # Python probes such names; that must not build the network.
            raise AttributeError(name)
        with self._lock:
            if self._built is None:
                self._built = self._build()
        return getattr(self._built, name)


def load(identity: str, build: Callable[[], Predictor]) -> Predictor | CachedPredictor:
    """Returns a predictor from the cache; if it is not there, builds it and puts it there.

    Args:
      identity: changes with the model's settings or weights.
      build: returns the predictor without the cache.
    """
    path = _path(identity)
    if path is None:
        return build()
    with contextlib.suppress(InputError, KeyError, ValueError, TypeError, tf.errors.OpError):
        return _cached(whole_files.read_npz(path, "graphs"), build)
    predictor = build()
    # If a future TensorFlow lacks the private functions used here, there is no cache.
    with contextlib.suppress(ImportError, AttributeError, tf.errors.OpError):
        arrays = _graphs(predictor)
        # A full disk, or a home without write permission.
        with contextlib.suppress(InputError, OSError):
            _write(path, arrays)
        # Like later processes, because optimized graphs may round differently.
        return _cached(arrays, lambda: predictor)
    return predictor


def _cached(arrays: Mapping[str, np.ndarray], build: Callable[[], Predictor]) -> CachedPredictor:
    """Returns a predictor whose graphs for videos have been run once."""
    cached = CachedPredictor(arrays, build)
    image = np.zeros((_TRIED_SIZE, _TRIED_SIZE, 3), np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[: _TRIED_SIZE // 2] = 1
    cached.step(image, cached.start(image, mask))
    return cached


class _Graph:
    """A function with its weights as constants.

    Attributes:
      specs: of its arguments, flattened by `tf.nest`.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str):
        """Imports the graph of this name from what `_arrays` returned."""
        try:
            graph = tf.compat.v1.GraphDef.FromString(arrays[name].tobytes())
        except Exception as error:  # Not all protobuf versions have a public base class of errors.
            raise ValueError(f"{name} is not a graph") from error
        outputs = dict(arrays[f"{name}_outputs"].tolist())
        self._names = list(outputs)
        # A session rather than a tf.function, which would optimize the graph again: that takes as
        # long as two frames, and no public option disables it for one function.
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=tf.config.threading.get_intra_op_parallelism_threads(),
            inter_op_parallelism_threads=tf.config.threading.get_inter_op_parallelism_threads(),
        )
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        with tf.Graph().as_default() as imported:
            tf.graph_util.import_graph_def(graph, name="")
        inputs = [imported.get_tensor_by_name(f"{n}:0") for n in arrays[f"{name}_inputs"].tolist()]
        self.specs = [tf.TensorSpec.from_tensor(tensor, tensor.op.name) for tensor in inputs]
        session = tf.compat.v1.Session(graph=imported, config=config)
        self._call = session.make_callable(list(outputs.values()), inputs)

    def __call__(self, *arguments: Any) -> dict[str, np.ndarray]:
        """Returns the results by name."""
        given = [
            np.asarray(value, spec.dtype.as_numpy_dtype)
            for value, spec in zip(tf.nest.flatten(arguments), self.specs)
        ]
        return dict(zip(self._names, self._call(*given)))


def _graphs(predictor: Predictor) -> dict[str, np.ndarray]:
    """Returns a predictor's functions for videos and for clicks as arrays."""
    state = sorted(predictor.step.input_signature[1])
    return {
        **_arrays("start", predictor.start, state),
        **_arrays("step", predictor.step, ["ids", "probabilities", *state]),
        **_arrays("features", predictor.features, ["features", "embeddings"]),
        **_arrays("segment_marked", predictor.segment_marked, ["log_odds"]),
    }


def _write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the graphs and removes the oldest other files."""
    with atomic_files.replacing(path) as temporary:
        np.savez(temporary, **arrays)
    by_age = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda each: each.stat().st_mtime)
    for old in by_age[:-_KEPT]:
        old.unlink(missing_ok=True)


def _arrays(name: str, function: Any, results: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns a traced function as arrays.

    Args:
      results: names of what it returns, in the order of `tf.nest`.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    graph = _optimized(frozen.graph, frozen.inputs, frozen.outputs)
    outputs = [(each, tensor.name) for each, tensor in zip(results, frozen.outputs)]
    return {
        name: np.frombuffer(graph.SerializeToString(), np.uint8),
        f"{name}_inputs": np.array([tensor.op.name for tensor in frozen.inputs]),
        f"{name}_outputs": np.array(outputs),
    }


def _optimized(
    graph: tf.Graph, inputs: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor]
) -> tf.compat.v1.GraphDef:
    """Returns a graph after the optimizations that TensorFlow applies before the first run."""
    from tensorflow.python.grappler import tf_optimizer

    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
    # Where the optimizer looks for what to keep.
    kept = meta.collection_def["train_op"].node_list.value
    kept.extend(tensor.name for tensor in (*inputs, *outputs))
    # Layers are fused only if they are placed on a CPU.
    for node in meta.graph_def.node:
        node.device = _PROCESSOR
    optimized = tf_optimizer.OptimizeGraph(tf.compat.v1.ConfigProto(), meta)
    for node in optimized.node:
        node.device = ""
    return optimized


def _path(identity: str) -> pathlib.Path | None:
    """Returns the file for the graphs; None if there is no cache."""
    folder = os.environ.get(FOLDER)
    if folder == "" or tf.config.list_physical_devices("GPU"):
        return None
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        folder = os.path.join(home, "feelvos_tf")
    # oneDNN changes how layers are fused, and TensorFlow enables it depending on the processor.
    machine = (os.environ.get(cli.ONEDNN), platform.machine(), *cli.processor_flags())
    code = [file for room in _ROOMS for file in sorted((_PACKAGE / room).rglob("*.py"))]
    digits = fingerprint(
        f"{identity} {tf.__version__} {machine}".encode(),
        *(file.read_bytes() for file in code if not file.stem.endswith("_test")),
    )
    return pathlib.Path(folder, f"{digits}{_SUFFIX}")
