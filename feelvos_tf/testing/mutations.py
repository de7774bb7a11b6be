"""Damages files reproducibly, for tests of everything that reads files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

_INTERESTING = (0, 1, 2, 127, 128, 254, 255)
_TEXTS = ("", ".", "..", "../..", "/etc/passwd", "a\0b", "\ud800", "-1", "0", "255", "300", "1e9")
_VALUES = (
    None,
    True,
    0,
    -1,
    255,
    300,
    2**31,
    2**70,
    1e308,
    float("nan"),
    [],
    {},
    [[[[]]]],
    *_TEXTS,
)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns a corrupted copy of a file: bytes changed, cut, repeated, moved or added.

    Args:
      content: of the file.
      rng: chooses the changes.
    """
    if content[:1] in (b"{", b"[") and rng.random() < 0.7:
        return _mutated_json(content, rng)
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        _CHANGES[rng.integers(len(_CHANGES))](data, rng)
    return bytes(data)


def _mutated_json(content: bytes, rng: np.random.Generator) -> bytes:
    tree = json.loads(content)
    for _ in range(rng.integers(1, 4)):
        tree = _with_one_change(tree, rng)
    return json.dumps(tree).encode("utf-8", errors="surrogatepass")


def _with_one_change(tree: Any, rng: np.random.Generator) -> Any:
    """Returns a tree of JSON with one node replaced, removed, renamed or nested deep."""
    if isinstance(tree, (dict, list)) and tree and rng.random() < 0.85:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = keys[rng.integers(len(keys))]
        tree[key] = _with_one_change(tree[key], rng)
        if rng.random() < 0.1:
            value = tree.pop(key)
            if isinstance(tree, dict) and rng.random() < 0.5:
                tree[_TEXTS[rng.integers(len(_TEXTS))]] = value
        return tree
    if rng.random() < 0.05:
        for _ in range(400):
            tree = [tree]
        return tree
    return _VALUES[rng.integers(len(_VALUES))]


def _change_bytes(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 9)):
        if data:
            data[rng.integers(len(data))] = rng.integers(256)


def _change_header(data: bytearray, rng: np.random.Generator) -> None:
    if data:
        data[rng.integers(min(len(data), 64))] = _INTERESTING[rng.integers(len(_INTERESTING))]


def _enlarge_number(data: bytearray, rng: np.random.Generator) -> None:
    if len(data) > 4:
        start = rng.integers(len(data) - 4)
        data[start : start + 4] = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0")[
            rng.integers(3)
        ]


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[rng.integers(len(data) + 1) :]


def _remove(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(data) + 1)
    del data[start : start + rng.integers(1, 100)]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(data) + 1)
    data[start:start] = data[start : start + rng.integers(1, 200)]


def _insert(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(data) + 1)
    data[start:start] = rng.bytes(rng.integers(1, 50))


_CHANGES = (_change_bytes, _change_header, _enlarge_number, _cut, _remove, _repeat, _insert)
