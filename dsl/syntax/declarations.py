"""Declarations, and what they stand in: rules, actions, strategies, the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as OneOf

from dcompile.dsl.syntax.expressions import Expr
from dcompile.dsl.syntax.statements import Stmt
from dcompile.dsl.syntax.words import Ident, Node, Text
from dcompile.source import Source


@dataclass(frozen=True)
class Param(Stmt):
    """`param name: kind = default in low..high`."""

    name: Ident
    kind: Ident | None
    default: Expr
    low: Expr | None
    high: Expr | None


@dataclass(frozen=True)
class Model(Stmt):
    """`model name: kind(argument)`."""

    name: Ident
    kind: Ident
    argument: Expr | None


@dataclass(frozen=True)
class Module(Stmt):
    """`module name[count](taken, ...) -> given = "path"`; `count` has at most one number."""

    name: Ident
    count: tuple[Expr, ...]
    taken: tuple[Shape, ...]
    given: Shape
    path: Text


@dataclass(frozen=True)
class Shape(Node):
    """`kind[dimensions]`, what a module takes or gives."""

    kind: Ident
    dimensions: tuple[Expr, ...]


@dataclass(frozen=True)
class Rows(Stmt):
    """`rows name[count] [from layer layer] = "path"`."""

    name: Ident
    count: Expr
    layer: Expr | None
    path: Text


@dataclass(frozen=True)
class Taken(Node):
    """`name: kind[dimensions]`, a parameter of an extern rule."""

    name: Ident
    kind: Ident
    dimensions: tuple[Expr, ...]


@dataclass(frozen=True)
class Extern(Stmt):
    """`extern rule name(parameters) -> kind[dimensions] = "file.py:function"`."""

    name: Ident
    parameters: tuple[Taken, ...]
    kind: Ident
    dimensions: tuple[Expr, ...]
    path: Text


@dataclass(frozen=True)
class Canvas(Stmt):
    """`canvas name = kind(argument)`."""

    name: Ident
    kind: Ident
    argument: Expr


@dataclass(frozen=True)
class State(Stmt):
    """`state name: kind[dimensions] = init per lifetime`."""

    name: Ident
    kind: Ident
    dimensions: tuple[Expr, ...]
    init: Expr
    lifetime: Ident | None


@dataclass(frozen=True)
class Tree(Stmt):
    """`tree name = "path"`, `tree name = expand(4, 2)`, `tree name = [[0], [0, 0]]`."""

    name: Ident
    shape: Text | Expr


@dataclass(frozen=True)
class Require(Stmt):
    """`require lossless`."""

    what: Ident


@dataclass(frozen=True)
class Parameter(Node):
    """A parameter of a rule, an action or a strategy."""

    name: Ident
    default: Expr | None


@dataclass(frozen=True)
class Function(Stmt):
    """A `rule` (pure, gives a value) or an `action` (statements)."""

    kind: OneOf["rule", "action"]
    name: Ident
    parameters: tuple[Parameter, ...]
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Strategy(Node):
    """`strategy name(parameters) { members }`."""

    name: Ident
    parameters: tuple[Parameter, ...]
    members: tuple[Stmt, ...]


@dataclass(frozen=True)
class Comment(Node):
    """`# text`, with its sign."""

    text: str


@dataclass(frozen=True)
class File(Node):
    """A whole file; comments lie beside the tree, found by place."""

    items: tuple[Strategy | Function, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False)

    @property
    def source(self) -> Source:
        """The text that this was parsed from."""
        assert self.span.source is not None
        return self.span.source
