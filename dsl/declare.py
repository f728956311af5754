"""Declarations: parameters and their settings, the model, the canvas, state."""

from __future__ import annotations

from collections.abc import Mapping

from dcompile.diagnostic import CompileError, Diagnostic, Label, suggest
from dcompile.dsl import dists, syntax, tables
from dcompile.dsl.mistakes import not_yet
from dcompile.dsl.scope import Context, Failed, ModelName, Scope, Table, TokenList, Value, Variable
from dcompile.dsl.values import constant, convert, expression
from dcompile.strategy import (
    BOOL,
    FLOAT,
    INT,
    RESERVED,
    TOKEN,
    TOKENS,
    VECTOR,
    Canvas,
    Expr,
    Literal,
    ModelUse,
    Param,
    RunInput,
    State,
    Type,
)

Setting = int | float | bool | str | tuple[int, ...] | list[int]
Plain = int | float | bool | tuple[int, ...]
KINDS = {"int": INT, "float": FLOAT, "bool": BOOL, "tokens": TOKENS}


def parameter(node: syntax.Parameter) -> syntax.Param:
    """`strategy name(width = 4)` declares a param in its head."""
    default = node.default if node.default is not None else syntax.Word(node.span, "")
    return syntax.Param(node.span, node.name, None, default, None, None)


def param(ctx: Context, scope: Scope, node: syntax.Param, settings: Mapping[str, Setting]) -> Param:
    """A parameter with its default or the value set for it, of its type and in its range."""
    name = node.name.name
    if node.kind is not None and node.kind.name not in KINDS:
        ctx.fail(
            "unknown-type",
            f"there is no type `{node.kind.name}`",
            node.kind.span,
            help=suggest(node.kind.name, KINDS, "types"),
        )
    found = _default(ctx, scope, node)
    type = KINDS[node.kind.name] if node.kind is not None else _type_of(found)
    fitted = _fit(found, type)
    if fitted is None:
        ctx.fail("wrong-type", f"the default of `{name}` must be {_say(type)}", node.default.span)
    if name in settings:
        fitted = _set(node, type, settings[name])
    _range(ctx, scope, node, fitted, name in settings)
    if isinstance(fitted, tuple):
        scope.names[name] = TokenList(fitted)
    else:
        scope.names[name] = Value(Literal(type, node.name.span, fitted), "a parameter")
    return Param(name, type, fitted, node.span)


def _default(ctx: Context, scope: Scope, node: syntax.Param) -> Plain:
    if isinstance(node.default, syntax.Word) and not node.default.name:
        ctx.fail("missing-default", f"`{node.name.name}` needs a default", node.span, help=f"`{node.name.name} = 4`")
    if isinstance(node.default, syntax.Listing):
        return tuple(constant(ctx, scope, item, "a token id") for item in node.default.items)
    expr = expression(ctx, scope, node.default)
    if not isinstance(expr, Literal):
        ctx.fail(
            "not-constant", "a default must be known at the build", node.default.span, help="a number, `true`, `[1, 2]`"
        )
    return expr.value


def _type_of(found: Plain) -> Type:
    if isinstance(found, tuple):
        return TOKENS
    return BOOL if isinstance(found, bool) else INT if isinstance(found, int) else FLOAT


def _say(type: Type) -> str:
    return {INT: "an int", FLOAT: "a float", BOOL: "`true` or `false`", TOKENS: "a list of token ids"}[type]


def _fit(found: object, type: Type) -> Plain | None:
    """A value as one of the type, or None: ints are floats too, nothing else changes."""
    if type == TOKENS and isinstance(found, (list, tuple)):
        return tuple(found) if all(_id(item) for item in found) else None
    if isinstance(found, bool):
        return found if type == BOOL else None
    if isinstance(found, int) and type in (INT, FLOAT):
        if abs(found) >= 1 << 62:
            return None
        return float(found) if type == FLOAT else found
    if isinstance(found, float) and type == FLOAT and abs(found) <= 3e38:
        return found
    return None


def _id(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 31


def _set(node: syntax.Param, type: Type, given: Setting) -> Plain:
    name = node.name.name
    fitted = _fit(_read(given, type) if isinstance(given, str) else given, type)
    if fitted is None:
        title = f"`{name}` is set to `{given}`, but must be {_say(type)}"
        raise CompileError([Diagnostic("wrong-setting", title, Label(node.span, "declared here"))])
    return fitted


def _read(text: str, type: Type) -> object:
    """The value that a text on the command line stands for."""
    text = text.strip()
    try:
        if type == TOKENS:
            return [int(item) for item in text.strip("[]").split(",") if item.strip()]
        if type == BOOL:
            return {"true": True, "false": False}.get(text.lower())
        return int(text) if type == INT else float(text)
    except ValueError:
        return None


def _range(ctx: Context, scope: Scope, node: syntax.Param, fitted: Plain, was_set: bool) -> None:
    if node.low is None or node.high is None:
        return
    ends = [expression(ctx, scope, end) for end in (node.low, node.high)]
    for end in ends:
        if not isinstance(end, Literal) or isinstance(end.value, bool):
            ctx.fail("not-constant", "a range goes from number to number", end.span, help="`in 1..1024`")
    low, high = (end.value for end in ends if isinstance(end, Literal))
    if isinstance(fitted, (tuple, bool)):
        ctx.fail("wrong-type", "only numbers have a range", node.low.span.to(node.high.span))
    if low <= fitted <= high:
        return
    title = f"`{node.name.name}` is {fitted}, outside {low}..{high}"
    diagnostic = Diagnostic("out-of-range", title, Label(node.low.span.to(node.high.span), "its range"))
    if was_set:
        raise CompileError([diagnostic])
    ctx.diagnostics.append(diagnostic)
    raise Failed


ATTENTION = ("causal", "masked", "block_causal", "canvas", "permutation")


def model(ctx: Context, scope: Scope, node: syntax.Model) -> None:
    """`model lm: masked`."""
    kind = node.kind.name
    if kind not in ATTENTION:
        ctx.fail(
            "unknown-model-kind",
            f"there is no kind of model `{kind}`",
            node.kind.span,
            help=suggest(kind, ATTENTION, "kinds"),
        )
    block = None
    if kind in ("block_causal", "canvas"):
        if node.argument is None:
            ctx.fail("missing-argument", f"`{kind}` needs its block size", node.kind.span, help=f"`{kind}(4)`")
        block = constant(ctx, scope, node.argument, "the block size", 1)
    elif node.argument is not None:
        ctx.fail("unknown-argument", f"`{kind}` takes no argument", node.argument.span)
    if (kind == "canvas" and ctx.models) or any(m.attention == "canvas" for m in ctx.models):
        ctx.fail("second-model", "a model of two halves stands alone in a strategy", node.span)
    use = ModelUse(node.name.name, kind, block, node.span)  # type: ignore[arg-type]
    ctx.models.append(use)
    scope.names[node.name.name] = ModelName(use)


CANVASES = ("masked", "uniform", "empty")


def canvas(ctx: Context, node: syntax.Canvas, before: list[Canvas]) -> Canvas:
    """`canvas answer = masked(length)`."""
    kind = node.kind.name
    if before:
        ctx.fail(
            "repeated-name", "a strategy has one canvas", node.span, also=(Label(before[0].span, "the first one"),)
        )
    if kind not in CANVASES:
        ctx.fail(
            "unknown-canvas",
            f"there is no canvas `{kind}`",
            node.kind.span,
            help=suggest(kind, CANVASES, "kinds"),
        )
    if node.name.name != "answer":
        ctx.fail("unknown-canvas", "the canvas is called `answer`", node.name.span)
    if not isinstance(node.argument, syntax.Word) or node.argument.name != "length":
        ctx.fail(
            "unknown-canvas",
            "the canvas has `length` positions",
            node.argument.span,
            help="`length` is given at the run: `--max-new-tokens`",
        )
    return Canvas(kind, span=node.span)  # type: ignore[arg-type]


LIFETIMES = ("step", "block", "canvas", "sequence", "session")
BASES = ("int", "float", "bool", "token")


def state(ctx: Context, scope: Scope, node: syntax.State) -> State:
    """`state x: float[canvas] = 0 per block`."""
    if node.kind.name not in (*BASES, "dist"):
        ctx.fail(
            "unknown-type",
            f"there is no type `{node.kind.name}`",
            node.kind.span,
            help=suggest(node.kind.name, (*BASES, "dist"), "types"),
        )
    lifetime = node.lifetime.name if node.lifetime else "sequence"
    if lifetime not in LIFETIMES:
        assert node.lifetime is not None
        ctx.fail(
            "unknown-lifetime",
            f"there is no lifetime `{lifetime}`",
            node.lifetime.span,
            help=suggest(lifetime, LIFETIMES, "lifetimes"),
        )
    if _is_vector(node):
        return _vector(ctx, scope, node, lifetime)
    if tables.is_table(node) and node.kind.name != "dist":
        return _table(ctx, scope, node, lifetime)
    if node.kind.name == "dist":
        type, init = dists.state(ctx, node)
    else:
        type = dists.dimensions(ctx, node)
        init = _init(ctx, scope, node, Type(type.base))
    if lifetime == "session" and type.each:
        place = node.dimensions[0] if node.dimensions else node.kind
        ctx.diagnostics.append(not_yet("a session's state for each position", place.span))
        raise Failed
    named = node.name.name
    unique = ctx.unique(named) if RESERVED.fullmatch(named) else named
    scope.names[named] = Variable(unique, type, True, node.name.span)
    return State(unique, type, init, lifetime, node.span)  # type: ignore[arg-type]


def _is_vector(node: syntax.State) -> bool:
    (first, *more) = node.dimensions or (None,)
    return isinstance(first, syntax.Word) and first.name == "hidden" and not more


def _vector(ctx: Context, scope: Scope, node: syntax.State, lifetime: str) -> State:
    """`state h: float[hidden] = 0`."""
    if node.kind.name != "float":
        ctx.fail("unknown-type", f"a vector holds no `{node.kind.name}`", node.kind.span, help="`float[hidden]`")
    if lifetime == "session":
        ctx.diagnostics.append(not_yet("a session's vector", node.dimensions[0].span))
        raise Failed
    init, named = _init(ctx, scope, node, FLOAT), node.name.name
    unique = ctx.unique(named) if RESERVED.fullmatch(named) else named
    scope.names[named] = Variable(unique, VECTOR, True, node.name.span)
    return State(unique, VECTOR, init, lifetime, node.span)  # type: ignore[arg-type]


def _table(ctx: Context, scope: Scope, node: syntax.State, lifetime: str) -> State:
    """`state table: token[vocab, 8] = 0`, of vectors `float[8, hidden]`."""
    sizes, type = tables.sizes(ctx, scope, node)
    if type == VECTOR and lifetime == "session":
        ctx.diagnostics.append(not_yet("a session's vector", node.dimensions[-1].span))
        raise Failed
    init, named = _init(ctx, scope, node, FLOAT if type == VECTOR else type), node.name.name
    unique = ctx.unique(named) if RESERVED.fullmatch(named) else named
    scope.names[named] = Table(unique, type, sizes, node.name.span)
    return State(unique, type, init, lifetime, node.span, sizes)  # type: ignore[arg-type]


def _init(ctx: Context, scope: Scope, node: syntax.State, type: Type) -> Expr:
    found = expression(ctx, scope, node.init)
    if type == TOKEN and isinstance(found, Literal) and found.type == INT:
        return Literal(TOKEN, found.span, found.value)
    init = convert(ctx, found, type, f"the start of `{node.name.name}`")
    if not isinstance(init, (Literal, RunInput)):
        ctx.fail("not-constant", "state starts from a number or `length`", node.init.span)
    return init
