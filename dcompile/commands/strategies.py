"""`dcompile strategies`: what the standard library holds."""

from __future__ import annotations

from typing import Annotated

import typer

from dcompile.commands import console
from dcompile.commands.arguments import AsJson

Markdown = Annotated[bool, typer.Option("--markdown", help="Print the page docs/strategies.md.")]


def strategies(as_json: AsJson = False, as_markdown: Markdown = False) -> None:
    """List the strategies of the standard library."""
    from dcompile.dsl import library

    if as_markdown:
        console.out().print(library.page(), markup=False, end="")
        return
    found = {e.name: e.words for e in library.entries()}
    if as_json:
        console.print_json(found)
        return
    width = max(map(len, found), default=0)
    for name, words in found.items():
        console.out().print(f"{name:<{width}}  {words}", markup=False)
