"""Expressions: names, arithmetic, scores; each gets its type here. Regions and reductions are in `selection`."""

from __future__ import annotations

from typing import cast

from dcompile.diagnostic import Label
from dcompile.dsl import places, syntax
from dcompile.dsl.fold import fold
from dcompile.dsl.scope import (
    REGION_WORDS,
    Callable,
    Context,
    Distribution,
    DraftName,
    ModelName,
    RowsName,
    Scope,
    Table,
    TokenList,
    Trained,
    TreeName,
    Value,
    Variable,
    lookup,
)
from dcompile.source import Span
from dcompile.strategy import (
    BOOL,
    FLOAT,
    INT,
    REGION,
    TOKEN,
    TOKENS,
    Area,
    Base,
    Ended,
    Expr,
    Extern,
    Field,
    Literal,
    MaskToken,
    Name,
    NodeFact,
    Op,
    RunInput,
    Running,
    Type,
)

OPERATORS = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floordiv", "mod": "mod",
    "<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne", "and": "and", "or": "or",
}  # fmt: skip
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def op(name: str, base: Base, args: tuple[Expr, ...], span: Span) -> Expr:
    """An operation, done now if its arguments are known; per position if any argument is."""
    type = Type(base, any(a.type.each for a in args), any(a.type.wide for a in args))
    return fold(Op(type, span, name, args))


def to_float(expr: Expr) -> Expr:
    """The same number as a float."""
    if expr.type.base == "float":
        return expr
    assert expr.type.base == "int"
    return op("float", "float", (expr,), expr.span)


def convert(ctx: Context, expr: Expr, wanted: Type, what: str) -> Expr:
    """`expr` as `wanted`: an int may become a float, a row value may stand for one value per position, and one for each
    position for one per token too."""
    if expr.type.wide and not wanted.wide:
        what_is = f"this is {described(expr.type)}"
        ctx.fail("wrong-type", f"{what} must be {_asked(wanted)}", expr.span, what_is)
    if expr.type.each and not wanted.each:
        help = "reduce it: `any(...)`, `count(...)`, `sum(... in region)`" if expr.type != TOKENS else None
        ctx.fail(
            "wrong-type",
            f"{what} must be {described(wanted)} for the row",
            expr.span,
            f"this is {described(expr.type)}",
            help,
        )
    if expr.type.base == "int" and wanted.base == "float":
        return to_float(expr)
    if expr.type.base != wanted.base:
        ctx.fail(
            "wrong-type",
            f"{what} must be {_asked(wanted)}",
            expr.span,
            f"this is {described(expr.type)}",
            _cure(expr.type, wanted),
        )
    return expr


def described(type: Type) -> str:
    """A type in words: `an int`, `a region`, `a float per position`."""
    if type == REGION:
        return "a region"
    if type.base == "dist":
        return "a distribution"
    if type.base == "scores":
        return "scores"
    return article(type.base) + " per position" * type.each + " and token" * type.wide


def _asked(wanted: Type) -> str:
    """What would do: one value for the row stands for all positions."""
    return "a region or a truth value" if wanted == REGION else described(Type(wanted.base))


def _cure(found: Type, wanted: Type) -> str | None:
    if found.base == "float" and wanted.base == "int":
        return "round it with `floor(...)` or `ceil(...)`"
    if wanted.base == "token" and found.base == "int":
        return "a token is `token(id)`, or `p.token` of a model call `p`"
    if wanted == REGION:
        return "a region is `masked in b`, `R where p.max >= 0.9`, `take(...)`, ..."
    return None


def value(ctx: Context, scope: Scope, node: syntax.Expr, wanted: Type, what: str) -> Expr:
    """Elaborate and convert in one go."""
    return convert(ctx, expression(ctx, scope, node), wanted, what)


def region(ctx: Context, scope: Scope, node: syntax.Expr, what: str = "this") -> Expr:
    """An expression that must be a region."""
    expr = expression(ctx, scope, node)
    if expr.type != REGION:
        ctx.fail(
            "wrong-type",
            f"{what} must be a region",
            expr.span,
            f"this is {described(expr.type)}",
            _cure(expr.type, REGION),
        )
    return expr


def expression(ctx: Context, scope: Scope, node: syntax.Expr) -> Expr:
    """The typed meaning of an expression."""
    match node:
        case syntax.Number(span, number):
            return _number(ctx, span, number)
        case syntax.Truth(span, truth):
            return Literal(BOOL, span, truth)
        case syntax.Word(span, name):
            return word(ctx, scope, span, name)
        case syntax.Unary(span, sign, operand):
            return unary(ctx, expression(ctx, scope, operand), sign, span)
        case syntax.Binary():
            return binary(ctx, scope, node)
        case syntax.Choice():
            return choice(ctx, scope, node)
        case syntax.In(span, inside, around):
            left, right = expression(ctx, scope, inside), region(ctx, scope, around, "what stands behind `in`")
            if left.type != REGION:
                ctx.fail(
                    "misplaced-in",
                    f"`in` behind {described(left.type)} stands only in a reduction",
                    span,
                    help="`sum(x in R)`, `mean(x in R)`, `all(x in R)`; between two regions it is their overlap",
                )
            return op("and", "bool", (left, right), span)
        case syntax.Where(span, around, predicate):
            left = region(ctx, scope, around, "what stands before `where`")
            return op("and", "bool", (left, value(ctx, scope, predicate, REGION, "the predicate")), span)
        case syntax.Attribute() | syntax.Method():
            return ctx.score(ctx, scope, node)
        case syntax.Apply():
            return ctx.apply(ctx, scope, node)
        case syntax.Index() | syntax.Numbered():
            return ctx.index(ctx, scope, node)
        case syntax.Listing(span, _):
            ctx.fail("misplaced-list", "a list stands only as the value of a `param`", span)
    raise AssertionError(node)


def _number(ctx: Context, span: Span, number: int | float) -> Expr:
    if isinstance(number, float):
        if number > 3e38:
            ctx.fail("out-of-range", "this number is too large", span, help="floats reach 3e38")
        return Literal(FLOAT, span, number)
    if number >= 1 << 62:
        ctx.fail("out-of-range", "this number is too large", span)
    return Literal(INT, span, number)


def word(ctx: Context, scope: Scope, span: Span, name: str) -> Expr:
    """A name used as a value."""
    places.word(ctx, scope, span, name)
    if (found := builtin(scope, span, name)) is not None:
        return found
    binding = lookup(ctx, scope, name, span)
    if (own := places.own(scope, binding, span)) is not None:
        return own
    if scope.frame is not None:
        places.variable(ctx, scope, span, name)
    match binding:
        case Value(expr, _):
            return _moved(expr, span)
        case Variable(unique, type):
            return Name(type, span, unique)
        case Distribution():
            ctx.fail(
                "wrong-type",
                f"`{name}` is a distribution, not a value",
                span,
                help=f"say what of it: `{name}.token`, `{name}.max`, `{name}.entropy`, ...",
            )
        case TokenList():
            ctx.fail("wrong-type", f"`{name}` is a list of tokens", span, help="it stands in `p.without(...)`")
        case ModelName():
            ctx.fail("wrong-type", f"`{name}` is a model", span, help=f"call it: `p = {name}(region)`")
        case Table(sizes=sizes):
            ctx.fail("table-index", f"`{name}` is a table", span, help=f"read one cell: `{name}[{indices(sizes)}]`")
        case TreeName():
            ctx.fail("wrong-type", f"`{name}` is a tree", span, help=f"`draft t = {name} from last ...`")
        case RowsName():
            help = f"`draft t = chain(4) with {name} from last ...`"
            ctx.fail("wrong-type", f"`{name}` are rows, not a value", span, help=help)
        case DraftName():
            help = f"say what of it: `{name}.token`, `{name}.depth`, `{name}.accepted`, ..."
            ctx.fail("wrong-type", f"`{name}` is a draft, not a value", span, help=help)
        case Trained(made):
            what, use = ("a module", f"over a block: `{name}(x in b)`")
            if isinstance(made, Extern):
                what, use = ("an extern rule", f"with arguments: `{name}({', '.join(made.names)})`")
            ctx.fail("wrong-type", f"`{name}` is {what}", span, help=f"use it {use}")
        case Callable(function):
            ctx.fail(
                "wrong-type",
                f"`{name}` is {article(function.kind)}",
                span,
                help=f"use it with arguments: `{name}(...)`",
            )
    raise AssertionError(binding)


def indices(sizes: tuple[int, ...]) -> str:
    """As many indices as a table has sides: `i, j`."""
    return ", ".join("ijklmn"[: len(sizes)])


def article(kind: str) -> str:
    """`a rule`, `an action`."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _moved(expr: Expr, span: Span) -> Expr:
    """A literal or name is pointed at where it is used."""
    if isinstance(expr, Literal):
        return Literal(expr.type, span, expr.value)
    return Name(expr.type, span, expr.name) if isinstance(expr, Name) else expr


def builtin(scope: Scope, span: Span, name: str) -> Expr | None:
    """What a word of the language itself means, if `name` is one."""
    if name in REGION_WORDS:
        return Area(REGION, span, name)  # type: ignore[arg-type]
    if name == "count" and scope.predicate:
        return Running(Type("int", True), span, "count")
    if scope.frame is not None and name in ("depth", "rank", *scope.frame.facts):
        return NodeFact(Type("int", True), span, name)
    if scope.frame is not None and name == "none":
        return Literal(TOKEN, span, -1)
    match name:
        case "length":
            return RunInput(INT, span, "length")
        case "eos":
            return Ended(BOOL, span)
        case "mask_token":
            return MaskToken(TOKEN, span)
        case "position":
            return Field(Type("int", True), span, "position")
        case "token":
            return Field(TOKENS, span, "token")
    return None


def unary(ctx: Context, operand: Expr, sign: str, span: Span) -> Expr:
    """`-x`, `not x`."""
    if sign != "not" and operand.type.base == "vector":
        return op("neg", "vector", (operand,), span)
    if sign == "not":
        return op("not", "bool", (convert(ctx, operand, Type("bool", True), "what stands behind `not`"),), span)
    number(ctx, operand, "what stands behind `-`", wide=True)
    return op("neg", operand.type.base, (operand,), span)


def number(ctx: Context, expr: Expr, what: str, help: str | None = None, wide: bool = False) -> Expr:
    """An int or a float, per row or per position; one per token too where `wide`."""
    if expr.type.base not in ("int", "float") or (expr.type.wide and not wide):
        ctx.fail("wrong-type", f"{what} must be a number", expr.span, f"this is {described(expr.type)}", help)
    return expr


def binary(ctx: Context, scope: Scope, node: syntax.Binary) -> Expr:
    """Arithmetic, comparison, logic. The left side is walked as a list, since sums grow to the left."""
    name = OPERATORS[node.op]
    left, right = expression(ctx, scope, node.left), expression(ctx, scope, node.right)
    if name in ("and", "or"):
        both = [convert(ctx, e, Type("bool", True), f"each side of `{node.op}`") for e in (left, right)]
        return op(name, "bool", (both[0], both[1]), node.span)
    if name in ("eq", "ne") and left.type.base == right.type.base and left.type.base in ("token", "bool"):
        return op(name, "bool", (left, right), node.span)
    if "vector" in (left.type.base, right.type.base) and name in ("add", "sub", "mul", "div"):
        both = [
            e if e.type.base == "vector" else to_float(number(ctx, e, f"each side of `{node.op}`"))
            for e in (left, right)
        ]
        return op(name, "vector", (both[0], both[1]), node.span)
    for side in (left, right):
        tokens = "token" in (left.type.base, right.type.base) and name in ("eq", "ne")
        help = "a token is compared with `token(id)`" if tokens else None
        number(ctx, side, f"each side of `{node.op}`", help, wide=name in ("add", "sub", "mul", "div"))
    if name in ("floordiv", "mod"):
        for side in (left, right):
            convert(ctx, side, Type("int", True), f"each side of `{node.op}`")
        return op(name, "int", (left, right), node.span)
    if name == "div" or left.type.base != right.type.base:
        left, right = to_float(left), to_float(right)
    return op(name, "bool" if name in COMPARISONS else left.type.base, (left, right), node.span)


def choice(ctx: Context, scope: Scope, node: syntax.Choice) -> Expr:
    """`a if c else b`; a condition that is known picks its side now."""
    condition = value(ctx, scope, node.condition, Type("bool", True), "the condition")
    then, other = expression(ctx, scope, node.then), expression(ctx, scope, node.otherwise)
    if {then.type.base, other.type.base} == {"int", "float"}:
        then, other = to_float(then), to_float(other)
    if then.type.base != other.type.base:
        ctx.fail(
            "wrong-type",
            "both values of `if ... else` must be of one type",
            other.span,
            f"this is {described(other.type)}",
            also=(Label(then.span, f"this is {described(then.type)}"),),
        )
    if isinstance(condition, Literal):
        return then if condition.value else other
    return op("select", then.type.base, (condition, then, other), node.span)


def constant(ctx: Context, scope: Scope, node: syntax.Expr, what: str, least: int = 0) -> int:
    """An int known before the build."""
    expr = expression(ctx, scope, node)
    if expr.type != INT:
        ctx.fail("wrong-type", f"{what} must be an int", expr.span, f"this is {described(expr.type)}")
    if not isinstance(expr, Literal):
        ctx.fail("not-constant", f"{what} must be known at the build", expr.span, help="use a number or a `param`")
    if expr.value < least:
        ctx.fail("out-of-range", f"{what} must be at least {least}", expr.span, f"this is {expr.value}")
    return cast(int, expr.value)
