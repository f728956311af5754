"""The language front end: text to Strategy. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dcompile.diagnostic import error, suggest
from dcompile.dsl.declare import Setting
from dcompile.dsl.elaborate import elaborate
from dcompile.dsl.parser import parse
from dcompile.source import Source
from dcompile.strategy import Strategy

STANDARD = Path(__file__).with_name("std")


def load(source: Source | str, settings: Mapping[str, Setting] | None = None) -> Strategy:
    """The strategy of a text, or of the standard library by name; raises CompileError."""
    found = standard(source) if isinstance(source, str) else source
    return elaborate(parse(found), settings)


def standard(name: str) -> Source:
    """The text of a strategy of the standard library."""
    known = {path.stem: path for path in sorted(STANDARD.glob("*.dcs"))}
    if name not in known:
        raise error("unknown-strategy", f"the standard library has no `{name}`", suggest(name, known, "strategies"))
    return Source(f"std/{name}.dcs", known[name].read_text(encoding="utf-8"), STANDARD)
