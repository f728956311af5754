"""What builds keep for later ones, in the user's cache folder: entries by the hash of all that they were made from.

An entry is a folder. It is written beside its place and takes its name in one move, so that no other process sees half
of one; it holds the checksum of each of its files, and one that does not fit its checksums is dropped, not used.
`DCOMPILE_CACHE` moves the folder, or switches keeping off (`off`). A cache that cannot be written is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path

from platformdirs import user_cache_path

from dcompile.version import VERSION

OFF = "off"
SUMS = "checksums.json"
LIMIT = 20_000_000_000  # bytes of all entries; what was used longest ago goes first

_CHOSEN: ContextVar[str | None] = ContextVar("chosen cache", default=None)


@contextlib.contextmanager
def chosen(place: str | Path | None) -> Iterator[None]:
    """Inside, the cache lies here (or is `off`), whatever the environment says; None leaves it to the environment."""
    token = _CHOSEN.set(_CHOSEN.get() if place is None else str(place))
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def home() -> Path:
    """The folder of all that is kept between commands; tokenizers lie there even where builds keep nothing."""
    said = _said()
    return Path(said).expanduser() if said and said != OFF else user_cache_path("dcompile", appauthor=False)


def entries() -> Path | None:
    """Where entries of builds lie; None where keeping is switched off."""
    return None if _said() == OFF else home() / "builds"


def _said() -> str:
    return _CHOSEN.get() or os.environ.get("DCOMPILE_CACHE", "")


def key(kind: str, *parts: object, packages: tuple[str, ...] = (), sources: tuple[Path, ...] = ()) -> str:
    """The name of an entry: its kind, and a hash of what it is made from: plain values, the versions of dcompile,
    Python and `packages`, and the text of the modules that make it (a version stays while one works on them)."""
    made = hashlib.sha256()
    versions = {name: metadata.version(name) for name in packages}
    made.update(json.dumps([VERSION, sys.version, versions, parts], sort_keys=True).encode())
    for source in sources:
        made.update(source.read_bytes())
    return f"{kind}-{made.hexdigest()[:40]}"


def find(name: str) -> Path | None:
    """The folder of an entry, if there is one and it is whole."""
    place = entries()
    if place is None or not (place / name / SUMS).is_file():
        return None
    try:
        sums = json.loads((place / name / SUMS).read_text(encoding="utf-8"))
        whole = all(_digest(place / name / file) == digest for file, digest in sums.items())
    except (OSError, ValueError, AttributeError):
        whole = False
    if not whole:
        drop(name)
        return None
    with contextlib.suppress(OSError):
        os.utime(place / name)  # used now
    return place / name


def put(name: str, write: Callable[[Path], None]) -> None:
    """Make an entry, unless it is there or cannot be made: `write` fills the folder that it is given."""
    place = entries()
    if place is None or (place / name).exists():
        return
    half = place / f".{name}.{secrets.token_hex(4)}"
    try:
        half.mkdir(parents=True)
        write(half)
        sums = {p.relative_to(half).as_posix(): _digest(p) for p in sorted(half.rglob("*")) if p.is_file()}
        (half / SUMS).write_text(json.dumps(sums), encoding="utf-8")
        half.rename(place / name)  # fails where another process was quicker
        _trim(place, keep=name)
    except OSError:
        pass
    finally:
        shutil.rmtree(half, ignore_errors=True)


def drop(name: str) -> None:
    """Forget an entry."""
    if (place := entries()) is not None:
        shutil.rmtree(place / name, ignore_errors=True)


def copy(source: Path, target: Path) -> None:
    """A copy of a file, which shares its blocks on file systems that can. Never a hard link: ONNX Runtime refuses
    weights with a second name, and what is changed in place under one name would change under the other."""
    with source.open("rb") as old, target.open("wb") as new:
        left = os.fstat(old.fileno()).st_size
        try:
            while left > 0 and (done := os.copy_file_range(old.fileno(), new.fileno(), left)):
                left -= done
        except (OSError, AttributeError):
            shutil.copyfileobj(old, new)


def usage() -> dict[str, object]:
    """Where the cache lies, its entries and their bytes, as `doctor` shows them."""
    place = entries()
    found = [] if place is None or not place.is_dir() else [p for p in place.iterdir() if p.is_dir()]
    return {"folder": str(place or OFF), "entries": len(found), "bytes": sum(map(_size, found))}


def _trim(place: Path, keep: str) -> None:
    """Drop what was used longest ago until the rest fits the limit, and halves that a killed process left."""
    found = sorted((p for p in place.iterdir() if p.is_dir() and p.name != keep), key=lambda p: p.stat().st_mtime)
    total = sum(map(_size, found)) + _size(place / keep)
    for path in found:
        left = path.name.startswith(".") and time.time() - path.stat().st_mtime > 86400
        if left or total > LIMIT:
            total -= _size(path)
            shutil.rmtree(path, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
