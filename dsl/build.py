"""Lark's tree to ours: one small method per rule of the grammar."""

from __future__ import annotations

from typing import Any

from lark import Token, Tree
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive, v_args

from dcompile.dsl import syntax
from dcompile.source import Source, Span


def depth(tree: Tree[Token]) -> int:
    """How deep a tree is nested (without recursion: the text may be hostile)."""
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in node.children if isinstance(child, Tree)]
    return deepest


@v_args(meta=True)
class Builder(Transformer_NonRecursive[Token, Any]):
    """Children come as built nodes and as tokens, with None for what was left out."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source

    def _span(self, meta: Meta) -> Span:
        return Span(0, 0, self.source) if meta.empty else Span(meta.start_pos, meta.end_pos, self.source)

    def _ident(self, token: Token) -> syntax.Ident:
        assert token.start_pos is not None and token.end_pos is not None
        return syntax.Ident(Span(token.start_pos, token.end_pos, self.source), str(token))

    def _maybe(self, token: Token | None) -> syntax.Ident | None:
        return None if token is None else self._ident(token)

    def _text(self, path: Token) -> syntax.Text:
        return syntax.Text(self._ident(path).span, str(path)[1:-1])

    # ------------------------------------------------------------ the whole

    def start(self, meta: Meta, items: list[Any]) -> syntax.File:
        return syntax.File(Span(0, len(self.source.text), self.source), tuple(items))

    def strategy(self, meta: Meta, c: list[Any]) -> syntax.Strategy:
        return syntax.Strategy(self._span(meta), self._ident(c[0]), c[1] or (), tuple(c[2:]))

    def rule(self, meta: Meta, c: list[Any]) -> syntax.Function:
        return syntax.Function(self._span(meta), "rule", self._ident(c[0]), c[1], c[2])

    def action(self, meta: Meta, c: list[Any]) -> syntax.Function:
        return syntax.Function(self._span(meta), "action", self._ident(c[0]), c[1], c[2])

    def parameters(self, meta: Meta, c: list[Any]) -> tuple[syntax.Parameter, ...]:
        return tuple(p for p in c if p is not None)

    def parameter(self, meta: Meta, c: list[Any]) -> syntax.Parameter:
        return syntax.Parameter(self._span(meta), self._ident(c[0]), c[1])

    # ------------------------------------------------------------ declarations

    def param(self, meta: Meta, c: list[Any]) -> syntax.Param:
        low, high = c[3] or (None, None)
        return syntax.Param(self._span(meta), self._ident(c[0]), self._maybe(c[1]), c[2], low, high)

    def range(self, meta: Meta, c: list[Any]) -> tuple[Any, ...]:
        return tuple(c)

    def model(self, meta: Meta, c: list[Any]) -> syntax.Model:
        return syntax.Model(self._span(meta), self._ident(c[0]), self._ident(c[1]), c[2])

    def module(self, meta: Meta, c: list[Any]) -> syntax.Module:
        name, count, *taken, given, path = c
        return syntax.Module(self._span(meta), self._ident(name), count or (), tuple(taken), given, self._text(path))

    def shape(self, meta: Meta, c: list[Any]) -> syntax.Shape:
        return syntax.Shape(self._span(meta), self._ident(c[0]), c[1] or ())

    def rows(self, meta: Meta, c: list[Any]) -> syntax.Rows:
        return syntax.Rows(self._span(meta), self._ident(c[0]), c[1], c[2], self._text(c[3]))

    def taken(self, meta: Meta, c: list[Any]) -> syntax.Taken:
        return syntax.Taken(self._span(meta), self._ident(c[0]), self._ident(c[1]), c[2] or ())

    def extern(self, meta: Meta, c: list[Any]) -> syntax.Extern:
        name, *taken, given, dims, path = c
        parameters, text = tuple(t for t in taken if t is not None), self._text(path)
        return syntax.Extern(self._span(meta), self._ident(name), parameters, self._ident(given), dims or (), text)

    def canvas(self, meta: Meta, c: list[Any]) -> syntax.Canvas:
        return syntax.Canvas(self._span(meta), self._ident(c[0]), self._ident(c[1]), c[2])

    def state(self, meta: Meta, c: list[Any]) -> syntax.State:
        name, kind, dims, init, life = c
        return syntax.State(self._span(meta), self._ident(name), self._ident(kind), dims or (), init, self._maybe(life))

    def tree(self, meta: Meta, c: list[Any]) -> syntax.Tree:
        return syntax.Tree(self._span(meta), self._ident(c[0]), self._text(c[1]) if isinstance(c[1], Token) else c[1])

    def dimensions(self, meta: Meta, c: list[Any]) -> tuple[syntax.Expr, ...]:
        return tuple(c)

    def require(self, meta: Meta, c: list[Any]) -> syntax.Require:
        return syntax.Require(self._span(meta), self._ident(c[0]))

    # ------------------------------------------------------------ statements

    def block(self, meta: Meta, c: list[Any]) -> tuple[syntax.Stmt, ...]:
        return tuple(c)

    def options(self, meta: Meta, c: list[Any]) -> tuple[syntax.Option, ...]:
        return tuple(c)

    def assign(self, meta: Meta, c: list[Any]) -> syntax.Assign:
        return syntax.Assign(self._span(meta), self._ident(c[0]), c[1], c[2])

    def refresh(self, meta: Meta, c: list[Any]) -> syntax.Refresh:
        return syntax.Refresh(self._span(meta), self.apply(meta, c[:2]), c[2])

    def keep_none(self, meta: Meta, c: list[Any]) -> syntax.Option:
        return self._keep(meta, None)

    def keep(self, meta: Meta, c: list[Any]) -> syntax.Option:
        return self._keep(meta, c[0])

    def _keep(self, meta: Meta, value: syntax.Expr | None) -> syntax.Option:
        span = self._span(meta)
        return syntax.Option(span, syntax.Ident(Span(span.start, span.start + 4, self.source), "keep"), value)

    def with_(self, meta: Meta, c: list[Any]) -> syntax.Option:
        return syntax.Option(self._span(meta), self._ident(c[0]), c[1])

    def plus(self, meta: Meta, c: list[Any]) -> syntax.Option:
        span = self._span(meta)
        return syntax.Option(span, syntax.Ident(Span(span.start, span.start + 4, self.source), "plus"), c[0])

    def invoke(self, meta: Meta, c: list[Any]) -> syntax.Invoke:
        return syntax.Invoke(self._span(meta), self.apply(meta, c))

    def commit(self, meta: Meta, c: list[Any]) -> syntax.Write:
        return syntax.Write(self._span(meta), "commit", c[0], c[1], self._maybe(c[2]), c[3] or ())

    def overwrite(self, meta: Meta, c: list[Any]) -> syntax.Write:
        return syntax.Write(self._span(meta), "overwrite", c[0], c[1])

    def mask(self, meta: Meta, c: list[Any]) -> syntax.Write:
        return syntax.Write(self._span(meta), "mask", None, c[0])

    def noise(self, meta: Meta, c: list[Any]) -> syntax.Write:
        return syntax.Write(self._span(meta), "noise", None, c[0])

    def truncate(self, meta: Meta, c: list[Any]) -> syntax.Write:
        return syntax.Write(self._span(meta), "truncate", None, c[0])

    def append(self, meta: Meta, c: list[Any]) -> syntax.Write:
        return syntax.Write(self._span(meta), "append", c[0], None)

    def for_in(self, meta: Meta, c: list[Any]) -> syntax.ForIn:
        return syntax.ForIn(self._span(meta), self._ident(c[0]), c[1], c[2])

    def for_count(self, meta: Meta, c: list[Any]) -> syntax.ForCount:
        name, start, down, stop, body = c
        return syntax.ForCount(self._span(meta), self._ident(name), start, stop, down is not None, body)

    def while_loop(self, meta: Meta, c: list[Any]) -> syntax.While:
        return syntax.While(self._span(meta), c[0], c[1])

    def repeat(self, meta: Meta, c: list[Any]) -> syntax.Repeat:
        return syntax.Repeat(self._span(meta), c[0], c[1])

    def branches(self, meta: Meta, c: list[Any]) -> syntax.Branches:
        name, start, stop, body, within, tokens, region = c
        named, inside = self._ident(name), within is not None
        return syntax.Branches(self._span(meta), named, start, stop, body, inside, tokens, region)

    def draft(self, meta: Meta, c: list[Any]) -> syntax.Draft:
        name, shape, rows, root, (given, model, drawn) = c
        named, at, behind = self._ident(name), self._ident(root), self._maybe(rows)
        return syntax.Draft(self._span(meta), named, shape, at, given, model, drawn, behind)

    def join(self, meta: Meta, c: list[Any]) -> syntax.Join:
        name, *parts = map(self._ident, c)
        return syntax.Join(self._span(meta), name, tuple(parts))

    def drafted(self, meta: Meta, c: list[Any]) -> tuple[Any, ...]:
        *given, drawn = c
        return tuple(n for n in given if n is not None), None, self._maybe(drawn)

    def given(self, meta: Meta, c: list[Any]) -> syntax.Given:
        return syntax.Given(self._span(meta), self._ident(c[0]), c[1])

    def drafter(self, meta: Meta, c: list[Any]) -> tuple[Any, ...]:
        return (), self._ident(c[0]), self._maybe(c[1])

    def accept_where(self, meta: Meta, c: list[Any]) -> syntax.Accept:
        return syntax.Accept(self._span(meta), self._ident(c[0]), None, None, c[1])

    def accept_by(self, meta: Meta, c: list[Any]) -> syntax.Accept:
        draft, rule, arguments, where = c
        return syntax.Accept(self._span(meta), self._ident(draft), self._ident(rule), arguments, where)

    def fill(self, meta: Meta, c: list[Any]) -> syntax.Fill:
        return syntax.Fill(self._span(meta), self._ident(c[0]), tuple(c[1:-1]), c[-1])

    def if_else(self, meta: Meta, c: list[Any]) -> syntax.If:
        orelse = () if c[2] is None else c[2] if isinstance(c[2], tuple) else (c[2],)
        return syntax.If(self._span(meta), c[0], c[1], orelse)

    def break_(self, meta: Meta, c: list[Any]) -> syntax.Break:
        return syntax.Break(self._span(meta), c[0])

    def stop_on_eos(self, meta: Meta, c: list[Any]) -> syntax.Stop:
        return syntax.Stop(self._span(meta), None)

    def stop_when(self, meta: Meta, c: list[Any]) -> syntax.Stop:
        return syntax.Stop(self._span(meta), c[0])

    def return_(self, meta: Meta, c: list[Any]) -> syntax.Return:
        return syntax.Return(self._span(meta), c[0])

    # ------------------------------------------------------------ expressions

    def number(self, meta: Meta, c: list[Any]) -> syntax.Number:
        text = str(c[0])
        value = int(text) if text.isdigit() else float(text)
        return syntax.Number(self._span(meta), value)

    def truth(self, meta: Meta, c: list[Any]) -> syntax.Truth:
        return syntax.Truth(self._span(meta), c[0] == "true")

    def word(self, meta: Meta, c: list[Any]) -> syntax.Word:
        return syntax.Word(self._span(meta), str(c[0]))

    def listing(self, meta: Meta, c: list[Any]) -> syntax.Listing:
        return syntax.Listing(self._span(meta), tuple(x for x in c if x is not None))

    def apply(self, meta: Meta, c: list[Any]) -> syntax.Apply:
        return syntax.Apply(self._span(meta), self._ident(c[0]), c[1])

    def attribute(self, meta: Meta, c: list[Any]) -> syntax.Attribute:
        return syntax.Attribute(self._span(meta), c[0], self._ident(c[1]))

    def method(self, meta: Meta, c: list[Any]) -> syntax.Method:
        return syntax.Method(self._span(meta), c[0], self._ident(c[1]), c[2])

    def index(self, meta: Meta, c: list[Any]) -> syntax.Index:
        return syntax.Index(self._span(meta), c[0], tuple(x for x in c[1:] if x is not None))

    def numbered(self, meta: Meta, c: list[Any]) -> syntax.Numbered:
        return syntax.Numbered(self._span(meta), c[0], c[1], c[2])

    def arguments(self, meta: Meta, c: list[Any]) -> tuple[syntax.Argument, ...]:
        return tuple(x for x in c if x is not None)

    def argument(self, meta: Meta, c: list[Any]) -> syntax.Argument:
        return syntax.Argument(self._span(meta), None, c[0])

    def named(self, meta: Meta, c: list[Any]) -> syntax.Argument:
        order = str(c[2]) if c[2] is not None else ""
        return syntax.Argument(self._span(meta), self._ident(c[0]), c[1], order)  # type: ignore[arg-type]

    def unary(self, meta: Meta, c: list[Any]) -> syntax.Unary:
        return syntax.Unary(self._span(meta), str(c[0]), c[1])

    def binary(self, meta: Meta, c: list[Any]) -> syntax.Binary:
        return syntax.Binary(self._span(meta), str(c[1]), c[0], c[2])

    def inside(self, meta: Meta, c: list[Any]) -> syntax.In:
        return syntax.In(self._span(meta), c[0], c[1])

    def where(self, meta: Meta, c: list[Any]) -> syntax.Where:
        return syntax.Where(self._span(meta), c[0], c[1])

    def choice(self, meta: Meta, c: list[Any]) -> syntax.Choice:
        then, condition, otherwise = c
        return syntax.Choice(self._span(meta), condition, then, otherwise)
