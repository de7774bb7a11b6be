"""Serves a page on which objects are painted and their masks propagated, on this machine alone.

    python -m feelvos_tf.demo [--port=7860]

Open the address that it prints in a browser. feelvos_tf/demo_page/README.md shows the page.
"""

from __future__ import annotations

import importlib.util
import socket

from absl import flags

from feelvos_tf.core import cli, gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page.visitors import Limits
from feelvos_tf.inference import model_loading

_FLAGS = cli.flag_values(__name__)
_HOST = "127.0.0.1"
_DEFAULTS = Limits()
_PORT = flags.DEFINE_integer(
    "port",
    7860,
    "Port of the address; 0 for any that is free.",
    lower_bound=0,
    upper_bound=65535,
    flag_values=_FLAGS,
)
_MODEL = model_loading.define_flags(_FLAGS)
_MAX_FRAMES = flags.DEFINE_integer(
    "max_frames",
    _DEFAULTS.frames,
    "Frames per clip; later ones are dropped.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_MAX_SIDE = flags.DEFINE_integer(
    "max_side",
    _DEFAULTS.side,
    "Pixels of a frame's long side; larger frames are scaled down.",
    lower_bound=16,
    flag_values=_FLAGS,
)
_MAX_UPLOAD_MB = flags.DEFINE_integer(
    "max_upload_mb",
    _DEFAULTS.upload_bytes // 1_000_000,
    "Size of an uploaded file, in megabytes.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_MAX_VISITORS = flags.DEFINE_integer(
    "max_visitors", _DEFAULTS.visitors, "Visitors at a time.", lower_bound=1, flag_values=_FLAGS
)


def main(argv: list[str]) -> None:
    """Serves the page until it is interrupted."""
    del argv
    missing = [name for name in ("starlette", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise InputError(f"the page needs {missing[0]}: pip install 'feelvos_tf[demo]'")
    choice = _MODEL.choice()
    listening = _listening(_PORT.value)
    print("loading the model ...", flush=True)
    import uvicorn

    from feelvos_tf.demo_page import server

    predictor = choice.load()
    limits = _DEFAULTS._replace(
        frames=_MAX_FRAMES.value,
        side=_MAX_SIDE.value,
        upload_bytes=_MAX_UPLOAD_MB.value * 1_000_000,
        visitors=_MAX_VISITORS.value,
    )
    example = server.ExampleClip(gin_settings.PROJECT_ROOT / "testdata")
    config = uvicorn.Config(server.create(predictor, example, limits), log_level="warning")
    print(f"open http://{_HOST}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def _listening(port: int) -> socket.socket:
    """Returns a socket of this machine's own address, which no other machine can reach.

    Raises:
      InputError: the port is taken.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
    except OSError as error:
        listening.close()
        raise InputError(f"--port={port}: cannot be used ({error.strerror})") from error
    return listening


if __name__ == "__main__":
    cli.run(main)
