"""All visitors of the page, told apart by a cookie that nobody can guess."""

from __future__ import annotations

import pathlib
import secrets
import tempfile
import threading
import time

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page.limits import Limits
from feelvos_tf.demo_page.visitor import Visitor
from feelvos_tf.inference.numpy_predictor import NumpyPredictor


class Visitors:
    """Visitors by their keys; those who were not seen for long are forgotten, files and all."""

    def __init__(self, predictor: NumpyPredictor, limits: Limits):
        self._predictor, self._limits = predictor, limits
        self._folder = tempfile.TemporaryDirectory(prefix="feelvos_demo_")
        self._by_key: dict[str, Visitor] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def find(self, key: str | None) -> Visitor | None:
        """Returns the visitor of a key, None where there is none (any more)."""
        with self._lock:
            visitor = self._by_key.get(key)
            if visitor is not None:
                visitor.last_seen = time.monotonic()
            return visitor

    def add(self) -> tuple[str, Visitor]:
        """Returns the key of a new visitor, and the visitor.

        Raises:
          InputError: there are too many.
        """
        with self._lock:
            self._forget_idle()
            if len(self._by_key) >= self._limits.visitors:
                raise InputError(
                    f"there are {self._limits.visitors} visitors already: try again later"
                )
            key = secrets.token_urlsafe(24)
            folder = pathlib.Path(self._folder.name) / secrets.token_hex(8)
            folder.mkdir()
            self._by_key[key] = Visitor(folder, self._predictor, self._turn, self._limits)
            return key, self._by_key[key]

    def forget(self, key: str) -> None:
        """Removes a visitor and all files."""
        with self._lock:
            if key in self._by_key:
                self._by_key.pop(key).close()

    def close(self) -> None:
        """Removes all visitors."""
        for key in list(self._by_key):
            self.forget(key)
        self._folder.cleanup()

    def _forget_idle(self) -> None:
        oldest = time.monotonic() - self._limits.idle_seconds
        for key, visitor in list(self._by_key.items()):
            if visitor.last_seen < oldest and not visitor.is_running():
                self._by_key.pop(key).close()
