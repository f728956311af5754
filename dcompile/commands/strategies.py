"""`dcompile strategies`: what the standard library holds."""

from __future__ import annotations

import re

from dcompile.commands import console
from dcompile.commands.arguments import AsJson


def strategies(as_json: AsJson = False) -> None:
    """List the strategies of the standard library."""
    from dcompile.dsl import STANDARD

    found = {path.stem: first_words(path.read_text(encoding="utf-8")) for path in sorted(STANDARD.glob("*.dcs"))}
    if as_json:
        console.print_json(found)
        return
    width = max(map(len, found), default=0)
    for name, words in found.items():
        console.out().print(f"{name:<{width}}  {words}", markup=False)


def first_words(text: str) -> str:
    """The first sentence of the comment at the head of a strategy."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return re.split(r"\.\s+(?=[A-Z])", " ".join(lines))[0].rstrip(".")
