"""What all that is written has: a place; and the smallest of it, names and quoted texts."""

from __future__ import annotations

from dataclasses import dataclass

from dcompile.source import Span


@dataclass(frozen=True)
class Node:
    """Something written, and where."""

    span: Span


@dataclass(frozen=True)
class Ident(Node):
    """A name where it is declared or called."""

    name: str


@dataclass(frozen=True)
class Text(Node):
    """`"a path"`, without its quotes."""

    value: str
