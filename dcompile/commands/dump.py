"""Writing down a program after each pass that changed it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dcompile.settings import from_environment

if TYPE_CHECKING:
    from dcompile.compiler import Observer
    from dcompile.program import Program


def dump_to(folder: Path | None) -> Iterator[Observer]:
    """An observer that writes `NN-stage-pass.txt` files, if a folder is given here or by DCOMPILE_DUMP."""
    folder = folder or from_environment().dump
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    seen: list[str] = [""]

    def write(stage: str, name: str, program: Program, seconds: float) -> None:
        from dcompile.printing import text

        form = text(program)
        if form != seen[-1]:
            file = re.sub(r"[^\w-]+", "-", f"{len(seen) - 1:02}-{stage}-{name}").strip("-")
            (folder / f"{file}.txt").write_text(form, encoding="utf-8")
            seen.append(form)

    yield write
