"""Where models lie on this machine, by fingerprint: an artifact does not name the path of the model that it was built
from, yet `verify` wants that model. Kept in the user's cache folder; losing it costs a `--model`."""

from __future__ import annotations

import contextlib
from pathlib import Path

from dcompile import cache


def remember(fingerprint: str, place: str | Path) -> None:
    """Note where a model was read from; a cache that cannot be written is no error."""
    with contextlib.suppress(OSError):
        note = _note(fingerprint)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(Path(place).resolve()) if Path(place).exists() else str(place), encoding="utf-8")


def recall(fingerprint: str) -> str | None:
    """Where the model was last read from; it may have changed since."""
    try:
        return _note(fingerprint).read_text(encoding="utf-8")
    except OSError:
        return None


def _note(fingerprint: str) -> Path:
    return cache.home() / "models" / fingerprint[:32]
