"""Statements, as they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf

from dcompile.dsl.syntax.expressions import Apply, Argument, Expr
from dcompile.dsl.syntax.words import Ident, Node


@dataclass(frozen=True)
class Stmt(Node):
    """A statement."""


@dataclass(frozen=True)
class Option(Node):
    """`keep none` (no value), `keep R`, `with name value` behind a model call; `plus x` behind a distribution."""

    name: Ident
    value: Expr | None


@dataclass(frozen=True)
class Assign(Stmt):
    """`name = value`, a model call if the value is one."""

    name: Ident
    value: Expr
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Refresh(Stmt):
    """`refresh model(region)`."""

    call: Apply
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Invoke(Stmt):
    """`action(arguments)`."""

    call: Apply


@dataclass(frozen=True)
class Write(Stmt):
    """`commit T at R [by rule(arguments)]`, `overwrite T at R`, `mask R`, `noise R`, `truncate R`, `append T`."""

    action: OneOf["commit", "overwrite", "mask", "noise", "truncate", "append"]
    tokens: Expr | None
    region: Expr | None
    rule: Ident | None = None
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class ForIn(Stmt):
    """`for name in blocks(...) { }`."""

    name: Ident
    over: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class ForCount(Stmt):
    """`for name in start [down] to stop { }`."""

    name: Ident
    start: Expr
    stop: Expr
    down: bool
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class While(Stmt):
    """`while condition { }`."""

    condition: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Repeat(Stmt):
    """`repeat { } until condition`."""

    body: tuple[Stmt, ...]
    until: Expr


@dataclass(frozen=True)
class Branches(Stmt):
    """`branch name in start to stop { } accept [within] tokens at region`."""

    name: Ident
    start: Expr
    stop: Expr
    body: tuple[Stmt, ...]
    within: bool
    tokens: Expr
    region: Expr


@dataclass(frozen=True)
class Given(Stmt):
    """`name = value` in the braces of a draft."""

    name: Ident
    value: Expr


@dataclass(frozen=True)
class Draft(Stmt):
    """`draft name = shape [with rows] from root { given; ... } [drawing drawn]`, or `by model` in place of braces."""

    name: Ident
    shape: Expr
    root: Ident
    given: tuple[Given, ...]
    model: Ident | None
    drawn: Ident | None
    rows: Ident | None = None


@dataclass(frozen=True)
class Join(Stmt):
    """`draft name = part union part ...`."""

    name: Ident
    parts: tuple[Ident, ...]


@dataclass(frozen=True)
class Accept(Stmt):
    """`accept draft where condition`, `accept draft by rule(arguments) [or where condition]`."""

    draft: Ident
    rule: Ident | None
    arguments: tuple[Argument, ...] | None
    where: Expr | None


@dataclass(frozen=True)
class Fill(Stmt):
    """`table[index] = value`."""

    table: Ident
    index: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True)
class If(Stmt):
    """`if condition { } else { }`; `else if` is an If alone in `orelse`."""

    condition: Expr
    then: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...]


@dataclass(frozen=True)
class Break(Stmt):
    """`break [when condition]`."""

    condition: Expr | None


@dataclass(frozen=True)
class Stop(Stmt):
    """`stop on eos` (no condition) or `stop when condition`."""

    condition: Expr | None


@dataclass(frozen=True)
class Return(Stmt):
    """`return value`, the last line of a rule."""

    value: Expr
