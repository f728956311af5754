"""Statements of the syntax tree to statements of the Strategy; actions are inlined."""

from __future__ import annotations

from dcompile.diagnostic import Label, suggest
from dcompile.dsl import inline, loops, syntax
from dcompile.dsl.scope import (
    WORDS,
    Broken,
    Callable,
    Context,
    Distribution,
    Failed,
    ModelName,
    Scope,
    Value,
    Variable,
    close,
    lookup,
)
from dcompile.dsl.values import convert, expression, region, value
from dcompile.strategy import (
    BOOL,
    FLOAT,
    REGION,
    TOKENS,
    Area,
    Assign,
    Break,
    Call,
    Ended,
    Expr,
    Field,
    If,
    Literal,
    Name,
    Op,
    Reduce,
    Stmt,
    Stop,
    Take,
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
            if isinstance(node, syntax.Assign) and scope.find(node.name.name) is None:
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
        case syntax.If():
            return branch(ctx, scope, node)
        case syntax.Break(span, condition):
            if not ctx.loops:
                ctx.fail("misplaced-break", "`break` stands outside of every loop", span)
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
    for body in (node.then, node.orelse):
        inner = scope.inner()
        sides.append((inner, block(ctx, inner, body)))
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
    if node.options:
        ctx.fail("misplaced-option", f"`{node.options[0].name.name}` stands only behind a model call", node.options[0].span)
    expr = expression(ctx, scope, node.value)
    found = scope.find(node.name.name)
    if found is None or isinstance(found[1], Broken):
        unique = ctx.unique(node.name.name)
        scope.names[node.name.name] = Variable(unique, expr.type, False, node.name.span)
        return Assign(node.span, unique, expr)
    target = found[1]
    if not isinstance(target, Variable):
        ctx.fail("not-assignable", f"`{node.name.name}` names the result of a model call already", node.name.span,
                 help="use another name for the value")  # fmt: skip
    converted = convert(ctx, expr, target.type, f"`{node.name.name}`")
    return Assign(node.span, target.name, spread(converted) if target.type.each else converted)


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
    if isinstance(binding, (ModelName, Callable)):
        ctx.fail("not-assignable", f"`{name.name}` is taken by a declaration", name.span)


def call(ctx: Context, scope: Scope, name: syntax.Ident | None, node: syntax.Apply,
         options: tuple[syntax.Option, ...]) -> Stmt:  # fmt: skip
    """A model call, with what it keeps and how it reads."""
    binding = lookup(ctx, scope, node.function.name, node.function.span)
    if not isinstance(binding, ModelName):
        ctx.fail("wrong-type", f"`{node.function.name}` is not a model", node.function.span)
    if len(node.arguments) != 1 or node.arguments[0].name is not None:
        wrong = next((a for a in node.arguments if a.name is not None), None)
        ctx.fail("unknown-argument" if wrong else "missing-argument", "a model call takes one region: what is fed",
                 wrong.span if wrong else node.span, help=f"`{node.function.name}(everything)`")  # fmt: skip
    feed = region(ctx, scope, node.arguments[0].value, "what is fed")
    given = _options(ctx, scope, options)
    site, ctx.calls = ctx.calls, ctx.calls + 1
    unique = None
    if name is not None:
        found = scope.find(name.name)
        if found is not None and isinstance(found[1], Variable):
            ctx.fail("not-assignable", f"`{name.name}` holds a value, so it cannot name the result of a call", name.span,
                     also=(Label(found[1].span, "assigned here"),))  # fmt: skip
        unique = ctx.unique(name.name)
        ctx.serial += 1
        scope.names[name.name] = Distribution(unique, binding.use.name, feed, ctx.serial, name.span)
        scope.stale.pop(name.name, None)
        ctx.assigned.append((scope.function, name.name))
    span = name.span.to(node.span) if name else node.span
    if options:
        span = span.to(options[-1].span)
    return Call(span, unique, binding.use.name, feed, given["keep"], given["guidance"], given["temperature"], site)


def _options(ctx: Context, scope: Scope, options: tuple[syntax.Option, ...]) -> dict[str, Expr | None]:
    out: dict[str, Expr | None] = {"keep": None, "guidance": None, "temperature": None}
    seen: set[str] = set()
    for option in options:
        name = option.name.name
        if name not in out:
            ctx.fail("unknown-argument", f"a model call has no `{name}`", option.name.span, help=suggest(name, out, "options"))
        if name in seen:
            ctx.fail("repeated-argument", f"`{name}` is given twice", option.span)
        seen.add(name)
        if option.value is None:
            out[name] = Literal(BOOL, option.span, False)
        elif name == "keep":
            out[name] = region(ctx, scope, option.value, "what is kept")
        else:
            out[name] = value(ctx, scope, option.value, FLOAT, f"the {name}")
    guidance = out["guidance"]
    if isinstance(guidance, Literal) and guidance.value == 0:
        out["guidance"] = None
    return out


# ---------------------------------------------------------------- actions


def write(ctx: Context, scope: Scope, node: syntax.Write) -> Stmt:
    """`commit`, `overwrite`, `mask`, `append`."""
    tokens = None
    if node.tokens is not None:
        tokens = value(ctx, scope, node.tokens, TOKENS, f"what `{node.action}` writes")
    where = region(ctx, scope, node.region, f"where `{node.action}` writes") if node.region is not None else None
    if node.action == "append" and isinstance(tokens, Name) and tokens.type.each is False:
        return Write(node.span, "append", None, tokens)
    return Write(node.span, node.action, where, tokens)


def invoke(ctx: Context, scope: Scope, node: syntax.Invoke) -> list[Stmt]:
    """An action: its arguments are evaluated first, then its statements stand here."""
    name = node.call.function
    found = scope.find(name.name)
    actions = {n for n in scope.visible() if _is_action(scope, n)}
    if found is None:
        ctx.fail("unknown-function", f"there is no action `{name.name}`", name.span, help=suggest(name.name, actions, "actions"))
    binding = lookup(ctx, scope, name.name, name.span)
    if isinstance(binding, ModelName):
        ctx.fail("unused-call", "the result of this model call has no name", node.span,
                 help=f"`p = {name.name}(...)`, or `refresh {name.name}(...)` to feed only")  # fmt: skip
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
        case Ended() | Reduce() | Take():
            return False
    return True
