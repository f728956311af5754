"""`dcompile format`: put strategy files in form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcompile.commands import console


def format(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Strategy files.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file is not in form.")] = False,
) -> None:
    """Put strategy files in form; comments stay."""
    from dcompile.compiler import source
    from dcompile.dsl import formatter
    from dcompile.dsl.parser import parse

    changed = 0
    for file in files:
        old = source(file)
        new = formatter.format(parse(old))
        if new != old.text:
            changed += 1
            console.say(f"{file}: {'not in form' if check else 'formatted'}")
            if not check:
                file.write_text(new, encoding="utf-8")
    if check and changed:
        raise typer.Exit(1)
