"""The web server of the page: routes and access control."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import io
import json
import mimetypes
import pathlib
import re
import secrets
import tempfile
import urllib.parse
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page import clip_files
from feelvos_tf.demo_page.visitors import Limits, Visitor, Visitors
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media import masks, overlay, points, video

_STATIC = pathlib.Path(__file__).parent / "static"
_COOKIE = "feelvos_visitor"
# A page of another site can make a browser send requests, but not with a custom header.
_HEADER = "x-feelvos"
# Names this machine answers to. Another site's name that resolves to it is refused.
_HOSTS = ["127.0.0.1", "localhost"]
EXAMPLE = "bunny.mp4"
_EXAMPLE_WIDTH = 320
_LARGEST_JSON = 100_000  # Bytes.
_BYTES = "application/octet-stream"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# How often idle visitors are removed.
_SWEEP_SECONDS = 30.0


class Password:
    """Middleware that requires a password (HTTP Basic, any user name)."""

    def __init__(self, app: ASGIApp, password: str):
        self._app, self._password = app, password.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_known(Headers(scope=scope)):
            headers = {"www-authenticate": 'Basic realm="feelvos_tf", charset="UTF-8"'}
            await Response("a password is required", 401, headers)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_known(self, headers: Headers) -> bool:
        kind, _, encoded = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded).partition(b":")[2]
        except ValueError:
            return False
        return kind.lower() == "basic" and secrets.compare_digest(given, self._password)


def create(
    predictor: VideoPredictor, folder: pathlib.Path, limits: Limits, password: str | None = None
) -> Starlette:
    """Returns the application.

    Args:
      predictor: provides the network, which all visitors share.
      folder: may hold the clip to try, `EXAMPLE`, and the mask of its first frame, a PNG.
      limits: on each visitor and on their number.
      password: required under any host name; None requires no password, but answers only to the
        names of this machine.
    """
    # Another site's name may resolve to this machine, but its page does not know the password.
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)
    if password is not None:
        guard = Middleware(Password, password=password)
    visitors = Visitors(predictor, limits)

    async def sweep() -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            await visitors.remove_idle()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(sweep())
        yield
        sweeping.cancel()
        visitors.close()

    return Starlette(
        routes=[
            *_Routes(visitors, folder / EXAMPLE).all(),
            Mount("/", StaticFiles(directory=_STATIC, html=True)),
        ],
        middleware=[
            guard,
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=1),
        ],
        exception_handlers={InputError: _input_error, HTTPException: _http_error},
        lifespan=lifespan,
    )


def _refusal(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status)


# Not plain functions, which would wait for a free thread.
async def _input_error(request: Request, error: Exception) -> Response:
    return _refusal(str(error), 400)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return _refusal(error.detail, error.status_code)


class _Routes:
    """The requests that visitors can make."""

    def __init__(self, visitors: Visitors, example: pathlib.Path):
        self._visitors, self._limits = visitors, visitors.limits
        self._example, self._example_mask = example, example.with_suffix(".png")
        # In a checkout, but not in an installed package.
        self._has_example = self._example.is_file() and self._example_mask.is_file()

    def all(self) -> list[Route]:
        """Returns the routes."""
        read, change = self._of_visitor, self._change
        mask = "/api/mask/{position:int}"
        return [
            Route("/api/state", self.state),
            Route("/api/clip", change(self.upload, may_be_new=True), methods=["POST"]),
            Route("/api/example.jpg", self.example_picture),
            Route("/api/example", change(self.take_example, may_be_new=True), methods=["POST"]),
            Route("/api/frame/{position:int}", read(self.frame)),
            Route(mask, read(self.mask)),
            Route(mask, change(self.paint), methods=["PUT"]),
            Route(mask, change(self.forget), methods=["DELETE"]),
            Route("/api/prepare/{position:int}", read(self.prepare), methods=["POST"]),
            Route("/api/prompt/{position:int}", change(self.prompt), methods=["POST"]),
            Route("/api/objects", change(self.name_objects), methods=["PUT"]),
            Route("/api/objects/{id:int}", change(self.remove_object), methods=["DELETE"]),
            Route("/api/run", change(self.run), methods=["POST"]),
            Route("/api/stop", read(self.stop), methods=["POST"]),
            Route("/api/leave", self.leave, methods=["POST"]),
            Route("/api/download/{name}", change(self.download)),
        ]

    def _change(self, handle: Callable, may_be_new: bool = False) -> Callable:
        """Returns a route that handles one visitor's requests one at a time."""

        async def in_order(request: Request, visitor: Visitor) -> Response | None:
            async with visitor.changing:
                if visitor.clip is None and not may_be_new:
                    raise InputError("choose a clip first")
                return await handle(request, visitor)

        return self._of_visitor(in_order, may_be_new)

    def _of_visitor(self, handle: Callable, may_be_new: bool = False) -> Callable:
        """Returns a route that finds the visitor by the cookie.

        Args:
          handle: handles a request; the answer is the new state unless it returns another one.
          may_be_new: whether to add a visitor if there is none. One who hangs up or sends
            something unusable is removed again.
        """

        async def route(request: Request) -> Response:
            _check_header(request)
            key = request.cookies.get(_COOKIE)
            visitor = self._visitors.find(key)
            is_new = visitor is None and may_be_new
            if is_new:
                key, visitor = await self._visitors.add()
            if visitor is None or (visitor.clip is None and not may_be_new):
                raise InputError("choose a clip first")
            try:
                response = await _answer(handle, request, visitor) or self.described(visitor)
            finally:
                visitor.touch()
                if is_new and visitor.clip is None:
                    await self._visitors.remove(key)
            response.set_cookie(_COOKIE, key, httponly=True, samesite="strict")
            response.headers["cache-control"] = "no-store"
            return response

        return route

    def described(self, visitor: Visitor | None) -> Response:
        """Returns the state that the page shows."""
        state = {"clip": None} if visitor is None else visitor.described()
        return JSONResponse({**state, "example": self._has_example})

    async def state(self, request: Request) -> Response:
        return self.described(self._visitors.find(request.cookies.get(_COOKIE)))

    async def upload(self, request: Request, visitor: Visitor) -> None:
        name = pathlib.PurePath(request.query_params.get("name", "")).stem
        sizes = _sizes(request.query_params.get("sizes", ""), self._limits)
        with tempfile.TemporaryDirectory(dir=visitor.folder, prefix="upload") as folder:
            whole = pathlib.Path(folder, "clip")
            with whole.open("wb") as file:
                async for part in self._parts(request):
                    await run_in_threadpool(file.write, part)
                    if file.tell() > self._limits.upload_bytes:
                        most = self._limits.upload_bytes // 1_000_000
                        raise HTTPException(413, f"the clip is larger than {most} MB")
            paths = await run_in_threadpool(_split, whole, sizes) if sizes else [whole]
            await run_in_threadpool(visitor.load, paths, name)

    async def _parts(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the parts of a request's body as they arrive; fails after too long a silence."""
        stream = request.stream()
        while True:
            try:
                yield await asyncio.wait_for(stream.__anext__(), self._limits.silent_seconds)
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError as error:
                raise HTTPException(408, "the rest of the file did not arrive") from error

    async def take_example(self, request: Request, visitor: Visitor) -> None:
        if not self._has_example:
            raise InputError("no clip comes with this installation: choose a file")
        mask = masks.read_annotation(self._example_mask)
        await run_in_threadpool(visitor.load, [self._example], self._example.stem, mask)
        visitor.name_objects({"1": {"name": "rabbit", "color": "#ff6b4a"}})

    def example_picture(self, request: Request) -> Response:
        """Returns a small JPEG of the example's first frame with its object highlighted."""
        first = next(iter(video.VideoFrames(self._example)))
        marked = overlay.overlay(first, masks.read_annotation(self._example_mask))
        stream = io.BytesIO()
        tile = overlay.contact_sheet([marked], 1, _EXAMPLE_WIDTH)
        Image.fromarray(tile).save(stream, format="JPEG")
        return Response(stream.getvalue(), media_type="image/jpeg")

    async def frame(self, request: Request, visitor: Visitor) -> Response:
        path = visitor.clip.image_path(_position(request, visitor))
        return Response(await run_in_threadpool(path.read_bytes), media_type="image/jpeg")

    async def mask(self, request: Request, visitor: Visitor) -> Response:
        ids = await run_in_threadpool(visitor.clip.mask, _position(request, visitor))
        return Response(ids.tobytes(), media_type=_BYTES)

    async def paint(self, request: Request, visitor: Visitor) -> None:
        position = _position(request, visitor)
        mask = await _array(request, visitor)
        is_given = request.query_params.get("given") != "0"
        await run_in_threadpool(visitor.paint, position, mask, is_given)

    async def forget(self, request: Request, visitor: Visitor) -> None:
        visitor.forget(_position(request, visitor))

    async def prepare(self, request: Request, visitor: Visitor) -> Response:
        await run_in_threadpool(visitor.prepare, _position(request, visitor))
        return Response()

    async def prompt(self, request: Request, visitor: Visitor) -> None:
        position = _position(request, visitor)
        marks = points.parsed("the request", await _json(request))
        corrects = request.query_params.get("corrects") == "1"
        await run_in_threadpool(visitor.prompt, position, marks, corrects)

    async def name_objects(self, request: Request, visitor: Visitor) -> None:
        visitor.name_objects(await _json(request))

    async def remove_object(self, request: Request, visitor: Visitor) -> None:
        await run_in_threadpool(visitor.remove_object, request.path_params["id"])

    async def run(self, request: Request, visitor: Visitor) -> None:
        asked = await _json(request)
        position = _checked(asked.get("position") if isinstance(asked, dict) else None, visitor)
        await run_in_threadpool(visitor.begin, position, asked.get("direction", "both"))

    async def stop(self, request: Request, visitor: Visitor) -> None:
        await run_in_threadpool(visitor.stop)

    async def leave(self, request: Request) -> Response:
        _check_header(request)
        await self._visitors.remove(request.cookies.get(_COOKIE))
        return JSONResponse({})

    async def download(self, request: Request, visitor: Visitor) -> Response:
        name = request.path_params["name"]
        if name not in clip_files.DOWNLOADS:
            raise HTTPException(404, "no such download")
        visitor.check_idle()
        file = await run_in_threadpool(_written, name, visitor)
        # Saved under this name, which may be in any script.
        save_as = urllib.parse.quote(f"{visitor.clip_name}_{name}", safe="")
        return StreamingResponse(
            iter(lambda: file.read(1 << 16), b""),
            media_type=mimetypes.guess_type(name)[0],
            headers={"content-disposition": f"attachment; filename*=UTF-8''{save_as}"},
        )


async def _answer(handle: Callable, request: Request, visitor: Visitor) -> Response | None:
    """Returns what a handler returns; errors become one sentence."""
    try:
        return await handle(request, visitor)
    except InputError as error:
        return _refusal(visitor.sentence(error), 400)
    except ClientDisconnect:
        return _refusal("the connection ended", 400)
    except FileNotFoundError:
        return _refusal("the clip was removed or replaced in the meantime", 409)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        return _refusal("no space is left on the server's disk", 507)


def _written(name: str, visitor: Visitor) -> BinaryIO:
    """Returns an open download, whose file disappears when it is closed."""
    with tempfile.TemporaryDirectory(dir=visitor.folder) as folder:
        path = pathlib.Path(folder, name)
        clip_files.DOWNLOADS[name](visitor.clip, visitor.objects, path)
        return path.open("rb")


def _sizes(text: str, limits: Limits) -> list[int]:
    """Returns the sizes in bytes of the pictures that a request holds one after the other."""
    if not text:
        return []
    if not re.fullmatch(r"\d{1,12}(,\d{1,12})+", text):
        raise InputError("expected the sizes of at least two pictures")
    return [int(size) for size in text.split(",")][: limits.frames + 1]


def _split(whole: pathlib.Path, sizes: list[int]) -> list[pathlib.Path]:
    """Writes the parts of a file next to it; returns their paths."""
    paths = [whole.with_name(f"{number:05d}") for number in range(len(sizes))]
    with whole.open("rb") as file:
        for path, size in zip(paths, sizes):
            path.write_bytes(file.read(size))
    return paths


def _check_header(request: Request) -> None:
    """Refuses requests that the page would not send; only GET requests may lack the header."""
    if request.method != "GET" and _HEADER not in request.headers:
        raise HTTPException(403, "expected a request from the page")


def _position(request: Request, visitor: Visitor) -> int:
    return _checked(request.path_params["position"], visitor)


def _checked(position: object, visitor: Visitor) -> int:
    """Returns the position; raises InputError if the clip has no such frame."""
    if type(position) is not int or not 0 <= position < visitor.clip.count:
        raise InputError(f"expected a frame 0 to {visitor.clip.count - 1}, found {position!r:.40}")
    return position


async def _body(request: Request, most: int) -> bytes:
    """Returns a request's body; of one with more than `most` bytes, only the beginning."""
    received = bytearray()
    async for part in request.stream():
        received += part
        if len(received) > most:
            break
    return bytes(received)


async def _array(request: Request, visitor: Visitor) -> np.ndarray:
    """Returns the mask in a request's body, row by row, as uint8 [height, width]."""
    height, width = visitor.clip.size
    received = await _body(request, height * width)
    if len(received) != height * width:
        raise InputError(f"expected {height * width} bytes, one per pixel")
    array = np.frombuffer(received, np.uint8).reshape(height, width)
    if array.max() == masks.VOID:
        raise InputError("expected ids 0 to 254")
    return array


async def _json(request: Request) -> Any:
    received = await _body(request, _LARGEST_JSON)
    if len(received) > _LARGEST_JSON:
        raise HTTPException(413, "the request is too large")
    try:
        return json.loads(received)
    except (ValueError, RecursionError) as error:
        raise InputError("expected JSON") from error
