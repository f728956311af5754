"""What names mean while a program is elaborated: bindings, scopes, and the mistakes found so far."""

from __future__ import annotations

import difflib
from collections.abc import Callable as Fn
from dataclasses import dataclass, field
from typing import Literal as OneOf
from typing import NoReturn

from dcompile.diagnostic import Diagnostic, Label, suggest
from dcompile.dsl import syntax
from dcompile.source import Span
from dcompile.strategy import RESERVED, Drawn, Expr, Extern, ModelUse, Module, Rows, Type
from dcompile.trees import Tree


class Failed(Exception):
    """A mistake was noted; the statement is given up, the others go on."""


@dataclass(frozen=True)
class Value:
    """A name for an expression that cannot be assigned: a parameter, an argument, a block, a counter."""

    expr: Expr
    what: str


@dataclass(frozen=True)
class Variable:
    """A name that statements assign; `name` is the unique one."""

    name: str
    type: Type
    state: bool
    span: Span


@dataclass(frozen=True)
class Distribution:
    """What a model call gave. `name` is unique; `feed` is what was fed; `shadow`: what its shadows gave."""

    name: str
    model: str
    feed: Expr
    serial: int
    span: Span
    shadow: Distribution | None = None


@dataclass(frozen=True)
class TokenList:
    """A parameter that holds token ids."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class ModelName:
    """A declared model."""

    use: ModelUse


@dataclass(frozen=True)
class Trained:
    """A declared module, or an extern rule."""

    module: Module | Extern


@dataclass(frozen=True, eq=False)
class Callable:
    """A rule or an action, and where its free names are looked up."""

    function: syntax.Function
    scope: Scope


@dataclass(frozen=True)
class Table:
    """A declared table, and its sizes (`State.sizes`)."""

    name: str
    type: Type
    sizes: tuple[int, ...]
    span: Span


@dataclass(frozen=True)
class TreeName:
    """A declared tree."""

    tree: Tree


@dataclass(frozen=True)
class RowsName:
    """Declared rows."""

    rows: Rows


@dataclass(frozen=True)
class DraftName:
    """A draft; `name` is unique. `model`: its drafter, None where its tokens come from an expression. `drawn`: how they
    were, empty where nothing says that they were. `own`: the variables of which its nodes have values of their own."""

    name: str
    tree: Tree
    drawn: Drawn
    model: str | None
    span: Span
    own: tuple[str, ...] = ()

    @property
    def frame(self) -> Frame:
        """Where the words of its nodes stand alone."""
        return Frame(
            "accept", self.name, tuple(dict(self.tree.facts)), dict.fromkeys(self.own, self.name), set(self.own)
        )


@dataclass(frozen=True)
class Broken:
    """A name whose own definition failed: its uses say nothing more."""


Binding = (
    Value
    | Variable
    | Distribution
    | TokenList
    | ModelName
    | Trained
    | Callable
    | Table
    | TreeName
    | RowsName
    | DraftName
    | Broken
)


@dataclass(eq=False)
class Frame:
    """Where values are ones of the nodes of a draft. In the braces of a `draft` and behind `accept ... where` the words
    `token`, `depth` and so on mean a node's own; in what a `table` is filled with, it is `t.token`, and `draft` the
    one that was named so far. `facts`: what the tree says of its nodes beside depth and rank. `own`: the variables of
    which each node has a value of its own, and the draft; `given`: those that are known here."""

    kind: OneOf["draft", "accept", "table"]
    draft: str | None
    facts: tuple[str, ...] = ()
    own: dict[str, str] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Scope:
    """Names of one block; the outer ones are behind `parent`.

    `gone`: names that an inner block, now closed, gave. `stale`: distributions that an inner block, now closed,
    assigned anew, so that it is open which one is meant. `frame`: what stands here has one value for each node;
    `above`: it is read at the node's parent.
    """

    parent: Scope | None = None
    names: dict[str, Binding] = field(default_factory=dict)
    gone: dict[str, Span] = field(default_factory=dict)
    stale: dict[str, Span] = field(default_factory=dict)
    predicate: bool = False
    function: int = 0
    caller: Scope | None = None
    frame: Frame | None = None
    above: bool = False

    def inner(self, predicate: bool = False) -> Scope:
        """A scope inside this one."""
        out = Scope(self, predicate=predicate or self.predicate, function=self.function, caller=self.caller)
        out.frame, out.above = self.frame, self.above
        return out

    def framed(self, frame: Frame, above: bool = False) -> Scope:
        """A scope inside this one whose values are those of nodes."""
        out = self.inner()
        out.frame, out.above = frame, above
        return out

    def find(self, name: str) -> tuple[Scope, Binding] | None:
        """The nearest binding of a name and the scope that holds it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope, scope.names[name]
            scope = scope.parent
        return None

    def visible(self) -> set[str]:
        """All names that may be used here."""
        out: set[str] = set()
        scope: Scope | None = self
        while scope is not None:
            out |= scope.names.keys()
            scope = scope.parent
        return out


@dataclass
class Context:
    """One elaboration: its mistakes, the unique names given out, and the trace of distributions used and assigned.

    `apply` elaborates `name(arguments)`, `score` elaborates `p.name` and `index` elaborates `table[i]`: the modules
    that know functions, scores and tables build on the one that knows expressions, and it calls them through here.
    `fed`: the calls on each draft.
    """

    apply: Fn[[Context, Scope, syntax.Apply], Expr]
    score: Fn[[Context, Scope, syntax.Attribute | syntax.Method], Expr]
    index: Fn[[Context, Scope, syntax.Index | syntax.Numbered], Expr]
    diagnostics: list[Diagnostic] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    calls: int = 0
    noises: int = 0
    randoms: int = 0
    functions: int = 0
    serial: int = 0
    uses: list[tuple[int, str, Distribution, Span]] = field(default_factory=list)
    assigned: list[tuple[int, str]] = field(default_factory=list)
    stack: list[syntax.Function] = field(default_factory=list)
    loops: int = 0
    models: list[ModelUse] = field(default_factory=list)
    rounding: list[tuple[int, str, Span]] = field(default_factory=list)
    drafts: int = 0
    accepts: int = 0
    verifies: int = 0
    fed: dict[str, list[Distribution]] = field(default_factory=dict)

    def report(self, code: str, title: str, span: Span, label: str = "", help: str | None = None,
               also: tuple[Label, ...] = ()) -> None:  # fmt: skip
        """Note a mistake and go on."""
        self.diagnostics.append(Diagnostic(code, title, Label(span, label), also, help))

    def fail(self, code: str, title: str, span: Span, label: str = "", help: str | None = None,
             also: tuple[Label, ...] = ()) -> NoReturn:  # fmt: skip
        """Note a mistake and give up this statement."""
        self.report(code, title, span, label, help, also)
        raise Failed

    def unique(self, name: str) -> str:
        """A name that no other variable or call of the program has, nor a program for its own."""
        stem = f"own_{name}" if RESERVED.fullmatch(f"{name}_2") else name
        new, count = stem, 2
        while new in self.taken or RESERVED.fullmatch(new):
            new, count = f"{stem}_{count}", count + 1
        self.taken.add(new)
        return new


REGION_WORDS = ("everything", "prompt", "answer", "masked", "last")
NODE_WORDS = ("parent", "depth", "rank")
WORDS = {
    "everything", "prompt", "answer", "masked", "last", "canvas", "length", "eos", "position", "token", "mask_token",
    "count", "true", "false", "none", "runs", "text", *NODE_WORDS,
}  # fmt: skip


def lookup(ctx: Context, scope: Scope, name: str, span: Span) -> Binding:
    """The binding of a name; fails with the nearest known name, or with why a name is no longer there."""
    found = scope.find(name)
    if found is None:
        _unknown(ctx, scope, name, span)
    holder, binding = found
    if isinstance(binding, Broken):
        raise Failed
    if isinstance(binding, Distribution):
        inner: Scope | None = scope
        while inner is not None:
            if name in inner.stale:
                ctx.fail(
                    "stale-distribution",
                    f"which `{name}` is meant is not certain here",
                    span,
                    help=f"give the call inside the block a name of its own, or use `{name}` there",
                    also=(Label(inner.stale[name], f"`{name}` is assigned again here"),),
                )
            inner = None if inner is holder else inner.parent
        ctx.uses.append((scope.function, name, binding, span))
    return binding


def _unknown(ctx: Context, scope: Scope, name: str, span: Span) -> NoReturn:
    here: Scope | None = scope
    while here is not None:
        if name in here.gone:
            ctx.fail(
                "unknown-name",
                f"`{name}` is not known here",
                span,
                help=f"assign `{name}` before the block too, or declare it with `state`",
                also=(Label(here.gone[name], "it is known only inside its block"),),
            )
        here = here.parent
    if scope.caller is not None and scope.caller.find(name) is not None:
        ctx.fail(
            "unknown-name",
            f"`{name}` is not known here",
            span,
            help=f"pass `{name}` as an argument, or declare it with `state`",
        )
    words = WORDS if scope.frame is not None else WORDS - {*NODE_WORDS}
    near = difflib.get_close_matches(name, scope.visible() | words, n=1)
    help = f"did you mean `{near[0]}`?" if near else suggest(name, scope.visible(), "declared names")
    ctx.fail("unknown-name", f"`{name}` is not known", span, help=help)


def close(ctx: Context, inner: Scope) -> None:
    """Leave a block: remember what it named, so that a later use can be told why it is not there."""
    outer = inner.parent
    assert outer is not None
    for name, binding in inner.names.items():
        span = getattr(binding, "span", None)
        if not isinstance(binding, (Variable, Distribution, DraftName)) or span is None:
            continue
        found = outer.find(name)
        if isinstance(binding, Distribution) and found is not None and isinstance(found[1], Distribution):
            outer.stale[name] = span
        elif found is None:
            outer.gone[name] = span
    for name, span in inner.stale.items():
        if name not in inner.names:
            outer.stale[name] = span
