"""Shapes of draft trees: `tree shape = "file.tree"`, `expand(4, 2)`, `[[0], [0, 0]]`, `chain(4)`,
`lookahead(5, 4, 5)`, `beam(5, 8, 32)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dcompile import trees
from dcompile.diagnostic import CompileError, Diagnostic, Label, suggest
from dcompile.dsl import syntax
from dcompile.dsl.declare import Setting
from dcompile.dsl.scope import Broken, Context, Failed, Scope, TreeName
from dcompile.dsl.values import constant, expression, number, to_float
from dcompile.source import Span
from dcompile.strategy import Literal, TreeFile
from dcompile.trees import Tree


def tree(ctx: Context, scope: Scope, node: syntax.Tree, settings: Mapping[str, Setting]) -> list[TreeFile]:
    """A declared tree, and its file if it comes from one; `--set shape=PATH` takes another file."""
    name = node.name.name
    if name not in settings and not isinstance(node.shape, syntax.Text):
        scope.names[name] = TreeName(shape(ctx, scope, node.shape))
        return []
    path = str(settings.get(name, node.shape.value if isinstance(node.shape, syntax.Text) else ""))
    folder = node.span.source.folder if node.span.source is not None and name not in settings else None
    text = _text(node, (folder or Path()).joinpath(path))
    try:
        scope.names[name] = TreeName(trees.read(text, path))
    except CompileError as e:
        ctx.diagnostics += e.diagnostics
        raise Failed from None
    return [TreeFile(name, text, node.span)]


def _text(node: syntax.Tree, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is no UTF-8 text"
        title = f"the file of `{node.name.name}` cannot be read: {why}"
        help = f"a path in the text starts at its folder; `--set {node.name.name}=PATH` takes another file"
        place = node.shape.span if isinstance(node.shape, syntax.Text) else node.span
        raise CompileError([Diagnostic("missing-tree", title, Label(place), help=help)]) from e


def shape(ctx: Context, scope: Scope, node: syntax.Expr) -> Tree:
    """The tree that is written: a name of one, `chain(4)`, `expand(4, 2)`, `[[0], [0, 0]]`, `lookahead(5, 4, 5)`."""
    match node:
        case syntax.Word(span, name):
            return _named(ctx, scope, span, name)
        case syntax.Apply(_, syntax.Ident(_, "chain"), arguments):
            (length, *more) = _numbers(ctx, scope, node, arguments)
            if more:
                ctx.fail("unknown-argument", "`chain` takes one number of nodes", arguments[1].span)
            return trees.chain(length)
        case syntax.Apply(_, syntax.Ident(_, "expand"), arguments):
            widths = _numbers(ctx, scope, node, arguments)
            return _made(ctx, node.span, lambda: trees.expand(*widths))
        case syntax.Apply(_, syntax.Ident(_, "lookahead"), arguments):
            numbers = _numbers(ctx, scope, node, arguments)
            if len(numbers) != 3 or min(numbers[0], numbers[1] - 1) < 2:
                title = "`lookahead` takes the window (2 or more), the length of an n-gram (3 or more), and the guesses"
                ctx.fail("unknown-argument", title, node.span, help="`lookahead(5, 4, 5)`")
            return _made(ctx, node.span, lambda: trees.lookahead(*numbers))
        case syntax.Apply(_, syntax.Ident(_, "beam"), arguments):
            return _beam(ctx, scope, node, arguments)
        case syntax.Listing(_, items) if items and all(isinstance(i, syntax.Listing) for i in items):
            paths = [
                [constant(ctx, scope, r, "a rank") for r in i.items] for i in items if isinstance(i, syntax.Listing)
            ]
            return _made(ctx, node.span, lambda: trees.paths(paths))
    ctx.fail("unknown-tree", "this is no tree", node.span, help="`chain(4)`, `expand(4, 2)`, `[[0], [0, 0]]`, a file")
    return None


def _named(ctx: Context, scope: Scope, span: Span, name: str) -> Tree:
    found: Any = (scope.find(name) or (None, None))[1]
    if isinstance(found, TreeName):
        return found.tree
    if isinstance(found, Broken):
        raise Failed
    known = [n for n in scope.visible() if isinstance((scope.find(n) or (0, 0))[1], TreeName)]
    help = suggest(name, known, "trees") if known else "`chain(4)`, or declare one: `tree shape = expand(4, 2)`"
    ctx.fail("unknown-tree", f"there is no tree `{name}`", span, help=help)
    return None


def _numbers(ctx: Context, scope: Scope, node: syntax.Apply, arguments: tuple[syntax.Argument, ...]) -> tuple[int, ...]:
    name = node.function.name
    if any(a.name for a in arguments) or not arguments:
        ctx.fail("missing-argument", f"`{name}` takes numbers of nodes", node.span, help="`chain(4)`, `expand(4, 2)`")
    out = tuple(constant(ctx, scope, a.value, f"a number of `{name}`", 1) for a in arguments)
    if max(out) >= trees.LIMIT:
        ctx.fail("bad-tree", f"a tree has at most {trees.LIMIT} nodes, the root included", node.span)
    return out


def _beam(ctx: Context, scope: Scope, node: syntax.Apply, arguments: tuple[syntax.Argument, ...]) -> Tree:
    """`beam(5, 8, 32)`, `beam(8, 16, 16, gain: 0.1)`."""
    gain = None
    if arguments and arguments[-1].name is not None and arguments[-1].name.name == "gain":
        asked = to_float(number(ctx, expression(ctx, scope, arguments[-1].value), "the gain"))
        if not isinstance(asked, Literal):
            ctx.fail("not-constant", "the gain must be known at the build", asked.span, help="a number or a `param`")
        gain, arguments = float(asked.value), arguments[:-1]
    numbers = _numbers(ctx, scope, node, arguments)
    if len(numbers) != 3:
        title = "`beam` takes how deep it goes, how many paths go on, and how many nodes stay"
        ctx.fail("unknown-argument", title, node.span, help="`beam(5, 8, 32)`, `beam(8, 16, 16, gain: 0.1)`")
    return _made(ctx, node.span, lambda: trees.beam(*numbers, gain))


def _made(ctx: Context, span: Span, make: Callable[[], Tree]) -> Tree:
    """A tree, whose mistakes are those of the text at `span`."""
    try:
        return make()
    except CompileError as e:
        ctx.diagnostics += [Diagnostic(d.code, d.title, Label(span), d.secondary, d.help) for d in e.diagnostics]
        raise Failed from None
