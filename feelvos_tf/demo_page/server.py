"""The web server of the page: routes, and who may ask."""

from __future__ import annotations

import contextlib
import json
import pathlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page import cut_out, downloads
from feelvos_tf.demo_page.limits import Limits
from feelvos_tf.demo_page.visitor import Visitor
from feelvos_tf.demo_page.visitors import Visitors
from feelvos_tf.inference.numpy_predictor import NumpyPredictor
from feelvos_tf.media import masks

_STATIC = pathlib.Path(__file__).parent / "static"
_COOKIE = "feelvos_visitor"
# A page of another site can make a browser send requests, but not with a header of its own.
_HEADER = "x-feelvos"
# Names under which this machine may be asked: a name of a foreign site that leads here is none.
_HOSTS = ["127.0.0.1", "localhost"]
_DOWNLOADS = {
    "masks.zip": downloads.write_pngs,
    "overlay.mp4": downloads.write_overlay,
    "masks.json": downloads.write_rle,
}
_BYTES = "application/octet-stream"


class ExampleClip:
    """The clip that comes with the project.

    Attributes:
      video: its file.
      mask: of its first frame.
    """

    def __init__(self, folder: pathlib.Path):
        self.video, self.mask = folder / "bunny.mp4", folder / "bunny.png"

    def is_there(self) -> bool:
        """Returns whether this is a checkout that has it."""
        return self.video.is_file() and self.mask.is_file()


def create(predictor: NumpyPredictor, example: ExampleClip, limits: Limits) -> Starlette:
    """Returns the application.

    Args:
      predictor: whose network all visitors share.
      example: a clip to begin with.
      limits: of every visitor.
    """
    visitors = Visitors(predictor, limits)
    routes = _Routes(visitors, example, limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        visitors.close()

    return Starlette(
        routes=[*routes.all(), Mount("/", StaticFiles(directory=_STATIC, html=True))],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=1),
        ],
        exception_handlers={InputError: _refused, HTTPException: _http_error},
        lifespan=lifespan,
    )


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


class _Routes:
    """What can be asked for, per visitor."""

    def __init__(self, visitors: Visitors, example: ExampleClip, limits: Limits):
        self._visitors, self._example, self._limits = visitors, example, limits

    def all(self) -> list[Route]:
        """Returns the routes."""
        return [
            Route("/api/state", self.look),
            Route("/api/clip", self._of_visitor(self.upload, True), methods=["POST"]),
            Route("/api/example", self._of_visitor(self.take_example, True), methods=["POST"]),
            Route("/api/frame/{position:int}", self._of_visitor(self.frame)),
            Route("/api/mask/{position:int}", self._of_visitor(self.mask)),
            Route("/api/mask/{position:int}", self._of_visitor(self.paint), methods=["PUT"]),
            Route("/api/mask/{position:int}", self._of_visitor(self.forget), methods=["DELETE"]),
            Route("/api/cut_out/{position:int}", self._of_visitor(self.cut_out), methods=["POST"]),
            Route("/api/objects", self._of_visitor(self.name_objects), methods=["PUT"]),
            Route("/api/run", self._of_visitor(self.run), methods=["POST"]),
            Route("/api/stop", self._of_visitor(self.stop), methods=["POST"]),
            Route("/api/leave", self.leave, methods=["POST"]),
            Route("/api/download/{name}", self._of_visitor(self.download)),
        ]

    def _of_visitor(self, handle: Callable, may_be_new: bool = False) -> Callable:
        """Returns a route that finds the visitor by the cookie.

        Args:
          handle: what the route does.
          may_be_new: whether a visitor is made where there is none: who only looks costs nothing.
        """

        async def route(request: Request) -> Response:
            _check_header(request)
            key = request.cookies.get(_COOKIE)
            visitor = self._visitors.find(key)
            if visitor is None and may_be_new:
                key, visitor = self._visitors.add()
            if visitor is None or (visitor.clip is None and not may_be_new):
                raise InputError("choose a clip first")
            try:
                response = await handle(request, visitor)
            except InputError as error:
                response = await _refused(request, error)
            response.set_cookie(_COOKIE, key, httponly=True, samesite="strict")
            response.headers["cache-control"] = "no-store"
            return response

        return route

    async def look(self, request: Request) -> Response:
        visitor = self._visitors.find(request.cookies.get(_COOKIE))
        state = {"clip": None} if visitor is None else visitor.described()
        return JSONResponse({**state, "example": self._example.is_there()})

    async def state(self, request: Request, visitor: Visitor) -> Response:
        return JSONResponse({**visitor.described(), "example": self._example.is_there()})

    async def upload(self, request: Request, visitor: Visitor) -> Response:
        with tempfile.NamedTemporaryFile(dir=visitor.folder, prefix="upload") as file:
            async for part in request.stream():
                file.write(part)
                if file.tell() > self._limits.upload_bytes:
                    most = self._limits.upload_bytes // 1_000_000
                    raise HTTPException(413, f"the file is larger than {most} MB")
            file.flush()
            try:
                await run_in_threadpool(visitor.load, pathlib.Path(file.name))
            except InputError as error:
                # The name on this machine means nothing to the visitor.
                raise InputError(str(error).replace(f"{file.name}: ", "")) from error
        return await self.state(request, visitor)

    async def take_example(self, request: Request, visitor: Visitor) -> Response:
        if not self._example.is_there():
            raise InputError("no clip comes with this installation: choose a file")
        mask = masks.read_mask(self._example.mask)
        await run_in_threadpool(visitor.load, self._example.video, mask)
        visitor.name_objects({"1": {"name": "rabbit", "color": "#ff6b4a"}})
        return await self.state(request, visitor)

    async def frame(self, request: Request, visitor: Visitor) -> Response:
        position = _position(request, visitor)
        return FileResponse(visitor.clip.image_path(position))

    async def mask(self, request: Request, visitor: Visitor) -> Response:
        position = _position(request, visitor)
        ids = await run_in_threadpool(visitor.clip.mask, position)
        return Response(ids.tobytes(), media_type=_BYTES)

    async def paint(self, request: Request, visitor: Visitor) -> Response:
        position = _position(request, visitor)
        mask = await _array(request, visitor)
        await run_in_threadpool(visitor.paint, position, mask)
        return await self.state(request, visitor)

    async def forget(self, request: Request, visitor: Visitor) -> Response:
        visitor.forget(_position(request, visitor))
        return await self.state(request, visitor)

    async def cut_out(self, request: Request, visitor: Visitor) -> Response:
        position = _position(request, visitor)
        hint = await _array(request, visitor)
        found = await run_in_threadpool(cut_out.cut_out, visitor.clip.image(position), hint)
        return Response(found.astype(np.uint8).tobytes(), media_type=_BYTES)

    async def name_objects(self, request: Request, visitor: Visitor) -> Response:
        visitor.name_objects(await _json(request))
        return await self.state(request, visitor)

    async def run(self, request: Request, visitor: Visitor) -> Response:
        asked = await _json(request)
        if not isinstance(asked, dict) or not isinstance(asked.get("position"), int):
            raise InputError("expected the position of a frame")
        position = _checked(asked["position"], visitor)
        await run_in_threadpool(visitor.begin, position, asked.get("direction", "both"))
        return await self.state(request, visitor)

    async def stop(self, request: Request, visitor: Visitor) -> Response:
        await run_in_threadpool(visitor.stop)
        return await self.state(request, visitor)

    async def leave(self, request: Request) -> Response:
        _check_header(request)
        await run_in_threadpool(self._visitors.forget, request.cookies.get(_COOKIE, ""))
        return JSONResponse({})

    async def download(self, request: Request, visitor: Visitor) -> Response:
        name = request.path_params["name"]
        if name not in _DOWNLOADS:
            raise HTTPException(404, "no such download")
        visitor.check_idle()
        path = visitor.folder / f"{secrets.token_hex(8)}{pathlib.Path(name).suffix}"
        await run_in_threadpool(_DOWNLOADS[name], visitor.clip, visitor.objects, path)
        return FileResponse(path, filename=name, background=BackgroundTask(path.unlink))


def _check_header(request: Request) -> None:
    """Refuses what the page itself would not send; pictures and downloads carry no header."""
    if request.method != "GET" and _HEADER not in request.headers:
        raise HTTPException(403, "expected a request of the page")


def _position(request: Request, visitor: Visitor) -> int:
    return _checked(request.path_params["position"], visitor)


def _checked(position: int, visitor: Visitor) -> int:
    """Returns the position; raises InputError if the clip has no such frame."""
    if not 0 <= position < visitor.clip.count:
        raise InputError(f"expected a frame 0 to {visitor.clip.count - 1}, found {position}")
    return position


async def _array(request: Request, visitor: Visitor) -> np.ndarray:
    """Returns the uint8 [height, width] array that a request holds, row by row."""
    height, width = visitor.clip.size
    received = bytearray()
    async for part in request.stream():
        received += part
        if len(received) > height * width:
            break
    if len(received) != height * width:
        raise InputError(f"expected {height * width} bytes, one per pixel")
    array = np.frombuffer(bytes(received), np.uint8).reshape(height, width)
    if array.max() == masks.VOID:
        raise InputError("expected ids 0 to 254")
    return array


async def _json(request: Request) -> Any:
    received = bytearray()
    async for part in request.stream():
        received += part
        if len(received) > 100_000:
            raise HTTPException(413, "the request is too large")
    try:
        return json.loads(received)
    except (ValueError, RecursionError) as error:
        raise InputError("expected JSON") from error
