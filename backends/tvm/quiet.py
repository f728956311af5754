"""TVM's compiler warns past Python, on the error stream, of things in its own code that say nothing to a user."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def without_lines(*noise: str) -> Iterator[None]:
    """Hold the error stream of the process back, and let go of it at the end but for lines that contain `noise`."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            _write(
                [line for line in held.read().splitlines(keepends=True) if not any(n.encode() in line for n in noise)]
            )


def _write(lines: Sequence[bytes]) -> None:
    for line in lines:
        os.write(2, line)
