"""What the environment may set. Each has a command-line option of the same name, which wins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """`DCOMPILE_DUMP`: a folder for the text form after each pass. `DCOMPILE_DEBUG=1`: tracebacks of our own bugs.
    `DCOMPILE_CACHE` (read by `dcompile.cache`): where builds keep things, or `off`."""

    dump: Path | None = None
    debug: bool = False


def from_environment() -> Settings:
    """Read anew at each call: tests and embedding apps may change the environment."""
    dump = os.environ.get("DCOMPILE_DUMP")
    return Settings(Path(dump) if dump else None, os.environ.get("DCOMPILE_DEBUG", "") not in ("", "0"))
