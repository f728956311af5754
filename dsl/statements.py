"""Statements of the syntax tree to statements of the Strategy; actions are inlined."""

from __future__ import annotations

from dcompile.diagnostic import Label, suggest
from dcompile.dsl import branches, dists, drafts, inline, joining, loops, permuted, syntax, tables
from dcompile.dsl.calls import call
from dcompile.dsl.scope import (
    WORDS,
    Broken,
    Callable,
    Context,
    DraftName,
    Failed,
    ModelName,
    RowsName,
    Scope,
    Table,
    Trained,
    TreeName,
    Value,
    Variable,
    close,
    lookup,
)
from dcompile.dsl.values import convert, described, expression, indices, region, value
from dcompile.strategy import (
    BOOL,
    DIST,
    FIELD,
    REGION,
    TOKENS,
    Accepted,
    Area,
    Assign,
    AtLast,
    Break,
    Ended,
    Entry,
    Expr,
    Field,
    Found,
    If,
    Literal,
    Name,
    Op,
    Random,
    Reduce,
    Stmt,
    Stop,
    Take,
    TextAt,
    Type,
    Write,
    walk,
)


def block(ctx: Context, scope: Scope, body: tuple[syntax.Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements of a body; a statement with a mistake is left out and the rest goes on."""
    out: list[Stmt] = []
    for node in body:
        try:
            out += statement(ctx, scope, node)
        except Failed:
            if isinstance(node, (syntax.Assign, syntax.Draft, syntax.Join)) and scope.find(node.name.name) is None:
                scope.names[node.name.name] = Broken()
    return tuple(out)


def statement(ctx: Context, scope: Scope, node: syntax.Stmt) -> list[Stmt]:
    """The meaning of one statement: usually one, several for an inlined action."""
    match node:
        case syntax.Assign():
            return [assign(ctx, scope, node)]
        case syntax.Refresh(span, made, options):
            return [call(ctx, scope, None, made, options)]
        case syntax.Invoke():
            return invoke(ctx, scope, node)
        case syntax.Write():
            return [write(ctx, scope, node)]
        case syntax.Branches():
            return [branches.branches(ctx, scope, node, block)]
        case syntax.Draft():
            return [drafts.draft(ctx, scope, node)]
        case syntax.Join():
            drafts.free(ctx, scope, node.name)
            return [joining.join(ctx, scope, node)]
        case syntax.Accept():
            return [drafts.accept(ctx, scope, node)]
        case syntax.Fill():
            return [tables.fill(ctx, scope, node)]
        case syntax.If():
            return branch(ctx, scope, node)
        case syntax.Break(span, condition):
            if not ctx.loops:
                inside = "an action cannot leave a loop of the one that uses it" if ctx.stack else None
                ctx.fail("misplaced-break", "`break` stands outside of every loop", span, help=inside)
            return [Break(span, _condition(ctx, scope, condition) if condition else Literal(BOOL, span, True))]
        case syntax.Stop(span, condition):
            return [Stop(span, _condition(ctx, scope, condition) if condition else None)]
        case syntax.ForIn() | syntax.ForCount() | syntax.While() | syntax.Repeat():
            return loops.loop(ctx, scope, node, block)
        case syntax.Return(span):
            ctx.fail("misplaced-return", "`return` stands only at the end of a rule", span)
    raise AssertionError(node)


def _condition(ctx: Context, scope: Scope, node: syntax.Expr) -> Expr:
    return value(ctx, scope, node, BOOL, "the condition")


def branch(ctx: Context, scope: Scope, node: syntax.If) -> list[Stmt]:
    """`if`; a condition that is known at the build keeps one side only."""
    condition = _condition(ctx, scope, node.condition)
    sides = []
    for chosen, body in ((True, node.then), (False, node.orelse)):
        inner, rounding = scope.inner(), list(ctx.rounding)
        sides.append((inner, block(ctx, inner, body)))
        if isinstance(condition, Literal) and bool(condition.value) != chosen:
            ctx.rounding = rounding
    for inner, _ in sides:
        close(ctx, inner)
    if isinstance(condition, Literal):
        return list(sides[0 if condition.value else 1][1])
    return [If(node.span, condition, sides[0][1], sides[1][1])]


# ---------------------------------------------------------------- calls and assignments


def assign(ctx: Context, scope: Scope, node: syntax.Assign) -> Stmt:
    """`p = lm(R)`, or a value for a variable, declared where it is first assigned."""
    _assignable(ctx, scope, node.name)
    if isinstance(node.value, syntax.Apply):
        found = scope.find(node.value.function.name)
        if found is not None and isinstance(found[1], ModelName):
            return call(ctx, scope, node.name, node.value, node.options)
    if node.options and node.options[0].name.name == "plus":
        return dists.adjust(ctx, scope, node)
    if node.options:
        ctx.fail(
            "misplaced-option", f"`{node.options[0].name.name}` stands only behind a model call", node.options[0].span
        )
    found = scope.find(node.name.name)
    if found is not None and isinstance(found[1], Variable) and found[1].type == DIST:
        return dists.assign(ctx, scope, node, found[1])
    expr = _random(ctx, node.value) or expression(ctx, scope, node.value)
    if expr.type.base == "scores":
        help = "`lm.head(x).ranked(0)`"
        ctx.fail("wrong-type", "scores are read where they are made", node.value.span, help=help)
    if found is None or isinstance(found[1], Broken):
        if expr.type.wide:
            what = f"`{node.name.name}` would hold {described(expr.type)}"
            ctx.fail(
                "misplaced-table",
                what,
                node.name.span,
                help="such a variable is declared: `state C: float[canvas, vocab] = 0`",
            )
        unique = ctx.unique(node.name.name)
        scope.names[node.name.name] = Variable(unique, expr.type, False, node.name.span)
        return Assign(node.span, unique, expr)
    target = found[1]
    if not isinstance(target, Variable):
        ctx.fail(
            "not-assignable",
            f"`{node.name.name}` names the result of a model call already",
            node.name.span,
            help="use another name for the value",
        )
    converted = convert(ctx, expr, target.type, f"`{node.name.name}`")
    if target.type.wide:
        return Assign(node.span, target.name, dists.spread(converted))
    return Assign(node.span, target.name, spread(converted) if target.type.each else converted)


def _random(ctx: Context, node: syntax.Expr) -> Expr | None:
    """`u = random()`: a statement of its own, so that it is drawn once."""
    if not isinstance(node, syntax.Apply) or node.function.name != "random" or node.arguments:
        return None
    site, ctx.randoms = ctx.randoms, ctx.randoms + 1
    return Random(FIELD, node.span, site)


def spread(expr: Expr) -> Expr:
    """A row value as one value per position."""
    if expr.type.each:
        return expr
    return Op(Type(expr.type.base, True), expr.span, "select", (Area(REGION, expr.span, "everything"), expr, expr))


def _assignable(ctx: Context, scope: Scope, name: syntax.Ident) -> None:
    if name.name in WORDS:
        ctx.fail("reserved-name", f"`{name.name}` is a word of the language", name.span, help="choose another name")
    found = scope.find(name.name)
    binding = found[1] if found else None
    if isinstance(binding, Value):
        ctx.fail("not-assignable", f"`{name.name}` is {binding.what} and cannot be assigned", name.span)
    if isinstance(binding, DraftName):
        also = (Label(binding.span, "drafted here"),)
        ctx.fail("not-assignable", f"`{name.name}` names a draft", name.span, also=also)
    if isinstance(binding, Table):
        help = f"fill its cells: `{name.name}[{indices(binding.sizes)}] = ...`"
        ctx.fail("table-index", f"`{name.name}` is a table", name.span, help=help)
    if isinstance(binding, (ModelName, Trained, Callable, TreeName, RowsName)):
        ctx.fail("not-assignable", f"`{name.name}` is taken by a declaration", name.span)


# ---------------------------------------------------------------- actions


def write(ctx: Context, scope: Scope, node: syntax.Write) -> Stmt:
    """`commit`, `overwrite`, `mask`, `noise`, `truncate`, `append`."""
    if node.rule is not None:
        return permuted.verify(ctx, scope, node)
    tokens = None
    if node.tokens is not None:
        tokens = value(ctx, scope, node.tokens, TOKENS, f"what `{node.action}` writes")
    where = region(ctx, scope, node.region, f"where `{node.action}` writes") if node.region is not None else None
    if node.action == "append" and isinstance(tokens, Name) and tokens.type.each is False:
        return Write(node.span, "append", None, tokens)
    if node.action == "noise":
        site, ctx.noises = ctx.noises, ctx.noises + 1
        return Write(node.span, "noise", where, None, site)
    return Write(node.span, node.action, where, tokens)


def invoke(ctx: Context, scope: Scope, node: syntax.Invoke) -> list[Stmt]:
    """An action: its arguments are evaluated first, then its statements stand here."""
    name = node.call.function
    found = scope.find(name.name)
    actions = {n for n in scope.visible() if _is_action(scope, n)}
    if found is None:
        ctx.fail(
            "unknown-function",
            f"there is no action `{name.name}`",
            name.span,
            help=suggest(name.name, actions, "actions"),
        )
    binding = lookup(ctx, scope, name.name, name.span)
    if isinstance(binding, ModelName):
        ctx.fail(
            "unused-call",
            "the result of this model call has no name",
            node.span,
            help=f"`p = {name.name}(...)`, or `refresh {name.name}(...)` to feed only",
        )
    if not isinstance(binding, Callable) or binding.function.kind != "action":
        ctx.fail("unused-value", f"`{name.name}` is not an action: its value is not used", node.span)
    inner, exprs = inline.arguments(ctx, scope, binding, node.call)
    out: list[Stmt] = []
    for parameter, expr in exprs:
        if not _settled(scope, expr):
            unique = ctx.unique(parameter)
            out.append(Assign(expr.span, unique, expr))
            inner.names[parameter] = Value(Name(expr.type, expr.span, unique), "an argument")
    ctx.stack.append(binding.function)
    loops_outside, ctx.loops = ctx.loops, 0
    try:
        out += block(ctx, inner, binding.function.body)
    finally:
        ctx.stack.pop()
        ctx.loops = loops_outside
    return out


def _is_action(scope: Scope, name: str) -> bool:
    found = scope.find(name)
    return found is not None and isinstance(found[1], Callable) and found[1].function.kind == "action"


def _settled(scope: Scope, expr: Expr) -> bool:
    """Whether an argument cannot change while the action runs: it looks neither at the canvas nor at variables."""
    mutable: set[str] = set()
    here: Scope | None = scope
    while here is not None:
        mutable |= {b.name for b in here.names.values() if isinstance(b, Variable)}
        here = here.parent
    return all(_fixed(node, mutable) for node in walk(expr))


def _fixed(node: object, mutable: set[str]) -> bool:
    match node:
        case Area(name=name):
            return name in ("everything", "prompt", "answer")
        case Field(name=name):
            return name == "position"
        case Name(name=name):
            return name not in mutable
        case Ended() | Reduce() | Take() | Entry() | TextAt() | Found() | Accepted() | AtLast():
            return False
    return True
