"""Expressions, as they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf

from dcompile.dsl.syntax.words import Ident, Node


@dataclass(frozen=True)
class Expr(Node):
    """An expression."""


@dataclass(frozen=True)
class Number(Expr):
    """`32`, `0.9`, `1e-3`; an int if written without point and exponent."""

    value: int | float


@dataclass(frozen=True)
class Truth(Expr):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True)
class Word(Expr):
    """A name used."""

    name: str


@dataclass(frozen=True)
class Listing(Expr):
    """`[1, 2]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Argument(Node):
    """`value`, or `name: value asc`."""

    name: Ident | None
    value: Expr
    order: OneOf["", "asc", "desc"] = ""


@dataclass(frozen=True)
class Apply(Expr):
    """`function(arguments)`."""

    function: Ident
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Attribute(Expr):
    """`value.name`."""

    value: Expr
    name: Ident


@dataclass(frozen=True)
class Method(Expr):
    """`value.name(arguments)`."""

    value: Expr
    name: Ident
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Index(Expr):
    """`value[items]`."""

    value: Expr
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Numbered(Expr):
    """`value[number](arguments)`."""

    value: Expr
    number: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Unary(Expr):
    """`-x` or `not x`."""

    op: str
    operand: Expr


@dataclass(frozen=True)
class Binary(Expr):
    """Arithmetic, comparison, `and`, `or`; `op` as it is typed."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class In(Expr):
    """`value in region`: an intersection, or what a reduction goes over."""

    value: Expr
    region: Expr


@dataclass(frozen=True)
class Where(Expr):
    """`region where predicate`."""

    region: Expr
    predicate: Expr


@dataclass(frozen=True)
class Choice(Expr):
    """`then if condition else otherwise`."""

    condition: Expr
    then: Expr
    otherwise: Expr
