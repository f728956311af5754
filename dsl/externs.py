"""Extern rules: `extern rule near(score: float[canvas]) -> bool[canvas] = "near.py:near"`, a function in torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from dcompile.diagnostic import CompileError, Diagnostic, Label, suggest
from dcompile.dsl import syntax
from dcompile.dsl.declare import BASES, Setting
from dcompile.dsl.inline import matched
from dcompile.dsl.scope import Context, Scope, Trained
from dcompile.dsl.values import value
from dcompile.strategy import Expr, Extern, Foreign, Strategy, Type


def extern(ctx: Context, scope: Scope, node: syntax.Extern, settings: Mapping[str, Setting]) -> Extern:
    """An extern rule and the text of its file, empty where it is not there (`missing` says so later)."""
    name = node.name.name
    taken = tuple(_type(ctx, t.kind, t.dimensions) for t in node.parameters)
    given = _type(ctx, node.kind, node.dimensions)
    path, colon, function = node.path.value.rpartition(":")
    if not colon or not function.isidentifier():
        help = '`"rules.py:function"`'
        ctx.fail("wrong-extern", "an extern rule names a file and a function in it", node.path.span, help=help)
    text = _text(node, settings[name]) if name in settings else _default(node, path)
    if text:
        _function(ctx, node, path, text, function)
    made = Extern(name, tuple(t.name.name for t in node.parameters), taken, given, path, function, text, node.span)
    scope.names[name] = Trained(made)
    return made


def _type(ctx: Context, kind: syntax.Ident, dimensions: tuple[syntax.Expr, ...]) -> Type:
    if kind.name not in BASES:
        ctx.fail("unknown-type", f"there is no type `{kind.name}`", kind.span, help=suggest(kind.name, BASES, "types"))
    names = [d.name if isinstance(d, syntax.Word) else "" for d in dimensions]
    wide = names == ["canvas", "vocab"] and kind.name == "float"
    if names not in ([], ["canvas"]) and not wide:
        help = f"`{kind.name}`, `{kind.name}[canvas]`, or `float[canvas, vocab]`"
        ctx.fail(
            "unknown-type", "a function takes and gives numbers of a row or of its positions", kind.span, help=help
        )
    return Type(kind.name, bool(names), wide)  # type: ignore[arg-type]


def _text(node: syntax.Extern, path: object) -> str:
    try:
        return Path(str(path)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        title = f"`{node.name.name}` is set to `{path}`, which cannot be read: {getattr(e, 'strerror', None) or e}"
        raise CompileError([Diagnostic("missing-extern", title, Label(node.span, "declared here"))]) from e


def _default(node: syntax.Extern, path: str) -> str:
    folder = node.span.source.folder if node.span.source is not None else None
    try:
        return (Path() if folder is None else folder).joinpath(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _function(ctx: Context, node: syntax.Extern, path: str, text: str, wanted: str) -> None:
    """The function is in the file, and takes `live` and what is declared."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as e:
        line = f", line {e.lineno}" if isinstance(e, SyntaxError) else ""
        what = e.msg if isinstance(e, SyntaxError) else str(e)
        ctx.fail("wrong-extern", f"`{path}` is no Python{line}: {what}", node.path.span)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    if wanted not in functions:
        help = suggest(wanted, functions, "functions")
        ctx.fail("missing-extern", f"`{path}` has no function `{wanted}`", node.path.span, help=help)
    names = ["live", *(p.name.name for p in node.parameters)]
    has = functions[wanted].args
    count, optional = len(has.posonlyargs) + len(has.args), len(has.defaults)
    if not (has.vararg or count - optional <= len(names) <= count) or any(d is None for d in has.kw_defaults):
        title = f"`{wanted}` takes {count} arguments, and is given {len(names)}"
        ctx.fail("wrong-extern", title, node.path.span, help=f"`def {wanted}({', '.join(names)}):`")


def apply(ctx: Context, scope: Scope, made: Extern, node: syntax.Apply) -> Expr:
    """`near(p.max if b else 0.0)`."""
    given = matched(ctx, made.name, made.names, node, made.span)
    args = []
    for name, type in zip(made.names, made.taken, strict=True):
        if name not in given:
            title = f"`{made.name}` needs `{name}`"
            ctx.fail("missing-argument", title, node.span, also=(Label(made.span, "declared here"),))
        args.append(value(ctx, scope, given[name].value, type, f"`{name}`"))
    return Foreign(made.given, node.span, made.name, tuple(args))


def missing(strategy: Strategy) -> list[Diagnostic]:
    """Extern rules whose file is not there."""
    return [
        Diagnostic("missing-extern", f"the file of `{e.name}` is not there", Label(e.span, "declared here"),
                   help=f"give it at the build: `--set {e.name}=PATH`; a path in the text starts at its folder")
        for e in strategy.externs if not e.text
    ]  # fmt: skip
