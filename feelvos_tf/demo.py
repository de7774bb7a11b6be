"""Serves a local page for marking objects in a video and propagating their masks.

    python -m feelvos_tf.demo [--port=7860]

Open the printed address in a browser. feelvos_tf/demo_page/README.md shows the page.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import secrets
import socket
import threading

from feelvos_tf.core import cli, gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page.visitors import Limits
from feelvos_tf.inference import model_loading
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media import video

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_LOOPBACK = "127.0.0.1"
_ANY = ("0.0.0.0", "::")  # Every address of this machine.
_DEFAULTS = Limits()
_HOST = _DEFINE.string(
    "host",
    "Address to listen on. Any other than 127.0.0.1, such as 0.0.0.0, lets other machines in; the "
    "page then asks for a password.",
    _LOOPBACK,
)
_PASSWORD = _DEFINE.string(
    "password",
    "With --host: the page's password; by default a random one is generated and printed.",
)
_PORT = _DEFINE.integer(
    "port", "Port to listen on; 0 for any free one.", 7860, lower_bound=0, upper_bound=65535
)
_MODEL = model_loading.ModelFlags(_FLAGS)
_MAX_FRAMES = _DEFINE.integer(
    "max_frames", "Frames per clip; later ones are dropped.", _DEFAULTS.frames, lower_bound=1
)
_MAX_SIDE = _DEFINE.integer(
    "max_side",
    "Long side of a frame in pixels; larger frames are scaled down.",
    _DEFAULTS.side,
    lower_bound=16,
)
_MAX_UPLOAD_MB = _DEFINE.integer(
    "max_upload_mb",
    "Size of an uploaded file, in megabytes.",
    _DEFAULTS.upload_bytes // 1_000_000,
    lower_bound=1,
)
_MAX_VISITORS = _DEFINE.integer(
    "max_visitors", "Simultaneous visitors.", _DEFAULTS.visitors, lower_bound=1
)


def main() -> None:
    """Serves the page until it is interrupted."""
    missing = [name for name in ("starlette", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise InputError(f"the page needs {missing[0]}: pip install 'feelvos_tf[demo]'")
    choice = _MODEL.choice()
    password = _password()
    listening = _listening(_HOST.value, _PORT.value)
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
    folder = gin_settings.PROJECT_ROOT / "testdata"
    app = server.create(predictor, folder, limits, password)
    warm_up = (predictor, folder / server.EXAMPLE)
    threading.Thread(target=_warm_up, args=warm_up, daemon=True).start()
    config = uvicorn.Config(app, log_level="warning")
    _print_address(listening.getsockname()[1], password)
    uvicorn.Server(config).run(sockets=[listening])


def _warm_up(predictor: VideoPredictor, clip: pathlib.Path) -> None:
    """Traces what the first click needs while the user is choosing a clip."""
    with contextlib.suppress(InputError):  # An installed package comes without the clip.
        image = next(iter(video.open_frames(clip)))
        predictor.another().prompt(image, [[side / 2 for side in image.shape[1::-1]]], [1])


def _password() -> str | None:
    """Returns the password of the page; None if only this machine can reach it."""
    if _HOST.value == _LOOPBACK:
        if _PASSWORD.value is not None:
            raise InputError(
                "--password: expected --host as well, found none; without it, other machines "
                "cannot reach the page"
            )
        return None
    return _PASSWORD.value or secrets.token_urlsafe(9)


def _print_address(port: int, password: str | None) -> None:
    """Prints the page's address, and who can use it."""
    host = _HOST.value if _HOST.value not in _ANY else socket.gethostname()
    if ":" in host:  # IPv6.
        host = f"[{host}]"
    print(f"open http://{host}:{port} (Ctrl-C stops it)", flush=True)
    if password is not None:
        print(
            f"password: {password} (any user name)\n"
            "Anyone who can reach this machine and has the password can use the page and the "
            "processor. Traffic, including the password, is not encrypted: use a private network, "
            "or omit --host and forward the port (ssh -L)",
            flush=True,
        )


def _listening(host: str, port: int) -> socket.socket:
    """Returns a listening socket: early connections wait, and no other program gets the port."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        has_both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=has_both)
    except OSError as error:
        flags_used = f"--port={port}" if host == _LOOPBACK else f"--host={host} --port={port}"
        raise InputError(f"{flags_used}: cannot be used: {error.strerror}") from error


if __name__ == "__main__":
    cli.run(main)
