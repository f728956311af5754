"""The syntax tree: what was written, before names mean anything. Spans never take part in comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as OneOf

from dcompile.source import Source, Span


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


# ---------------------------------------------------------------- expressions


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


# ---------------------------------------------------------------- statements


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
    """`draft name = shape [with rows] from root { given; ... }`, or `by model [drawing drawn]` in place of braces."""

    name: Ident
    shape: Expr
    root: Ident
    given: tuple[Given, ...]
    model: Ident | None
    drawn: Ident | None
    rows: Ident | None = None


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


# ---------------------------------------------------------------- declarations


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
    """`rows name[count] = "path"`."""

    name: Ident
    count: Expr
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
