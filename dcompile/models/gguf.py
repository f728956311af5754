"""The GGUF container, read in one sweep: metadata, and where each tensor lies (format: ggml's docs/gguf.md).

The `gguf` package's reader makes a NumPy object for every string and takes ten seconds for a vocabulary; its
dequantisation is used as it is (`gguf_weights.py`).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcompile.diagnostic import error

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_DIMS = 8


@dataclass(frozen=True)
class Stored:
    """A tensor's place: `shape` as torch says it (outermost first), ggml's number of its type, bytes from the start."""

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Header:
    """What stands before the data."""

    path: Path
    meta: dict[str, Any]
    tensors: dict[str, Stored]


class _Cursor:
    """Reads little-endian values one behind the other; struct.error or IndexError where the file ends early."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def many(self, code: str, count: int) -> tuple[Any, ...]:
        size = struct.calcsize("<" + code) * count
        values = struct.unpack(f"<{count}{code}", self.data[self.at : self.at + size])
        self.at += size
        return values

    def one(self, code: str) -> Any:
        return self.many(code, 1)[0]

    def string(self) -> str:
        size = self.one("Q")
        if size > len(self.data) - self.at:
            raise IndexError(size)
        self.at += size
        return self.data[self.at - size : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.one("I"), self.one("Q")
            if count > len(self.data) - self.at:
                raise IndexError(count)
            if inner in SCALARS:
                return list(self.many(SCALARS[inner], count))
            return [self.value(inner) for _ in range(count)]
        return self.one(SCALARS[kind])


def read_header(path: Path) -> Header:
    """Read what stands before the tensors' data; raises CompileError `unreadable-checkpoint`."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(path, _Cursor(data))
    except (OSError, ValueError, KeyError, IndexError, struct.error, RecursionError) as problem:
        raise error("unreadable-checkpoint", f"`{path}` is no readable GGUF file: {problem}") from problem


def _header(path: Path, cursor: _Cursor) -> Header:
    if cursor.data[:4] != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    cursor.at = 4
    version, tensors, pairs = cursor.one("I"), cursor.one("Q"), cursor.one("Q")
    if version not in (2, 3):
        raise ValueError(f"format version {version}, known are 2 and 3")
    meta: dict[str, Any] = {}
    for _ in range(pairs):
        name = cursor.string()
        meta[name] = cursor.value(cursor.one("I"))
    places = {}
    for _ in range(tensors):
        name, dims = cursor.string(), cursor.one("I")
        if dims > MAX_DIMS:
            raise ValueError(f"tensor `{name}` has {dims} dimensions")
        shape = tuple(reversed(cursor.many("Q", dims)))
        places[name] = Stored(shape, cursor.one("I"), cursor.one("Q"))
    align = int(meta.get("general.alignment", 32))
    start = (cursor.at + align - 1) // align * align
    moved = {name: Stored(t.shape, t.kind, start + t.offset) for name, t in places.items()}
    return Header(path, meta, moved)
