"""Model calls: what is fed, what is kept, how it is read."""

from __future__ import annotations

from dcompile.diagnostic import Label, suggest
from dcompile.dsl import depth, drafts, drift, embeds, eviction, permuted, shadows, syntax
from dcompile.dsl.dists import whole
from dcompile.dsl.options import of_first_model
from dcompile.dsl.scope import Context, Distribution, ModelName, Scope, Variable, lookup
from dcompile.dsl.values import region, value
from dcompile.strategy import BOOL, FLOAT, INT, TOKENS, Call, Expr, Literal, Shadow, Stmt


def call(ctx: Context, scope: Scope, name: syntax.Ident | None, node: syntax.Apply,
         options: tuple[syntax.Option, ...]) -> Stmt:  # fmt: skip
    """A model call, with what it keeps and how it reads."""
    binding = lookup(ctx, scope, node.function.name, node.function.span)
    if not isinstance(binding, ModelName):
        ctx.fail("wrong-type", f"`{node.function.name}` is not a model", node.function.span)
    named = _named(node)
    if len(node.arguments) != 1 + len(named) or node.arguments[0].name is not None:
        wrong = next((a for a in node.arguments if a.name is not None and a not in named.values()), None)
        ctx.fail(
            "unknown-argument" if wrong else "missing-argument",
            "a model call takes one region: what is fed",
            wrong.span if wrong else node.span,
            help=f"`{node.function.name}(everything)`",
        )
    nodes = drafts.feed(scope, node.arguments[0].value)
    if nodes is not None:
        drafts.fits(ctx, binding, name, node, options)
    feed = nodes or region(ctx, scope, node.arguments[0].value, "what is fed")
    given = _options(ctx, scope, options)
    asked = named.get("self_condition")
    condition = _condition(ctx, scope, asked, binding, name) if asked else None
    soft = embeds.mixed(ctx, scope, named, binding, given["guidance"]) if named.keys() & set(embeds.ARGUMENTS) else None
    fed = value(ctx, scope, named["tokens"].value, TOKENS, "what is fed") if "tokens" in named else None
    if soft or any(given[name] is not None for name in ("guidance", "shadow", "share")):
        of_first_model(ctx, binding, node.span)
    if fed is not None and (given["guidance"] or soft):
        ctx.fail("misplaced-option", "a call with guidance or embeddings feeds the canvas' own tokens", fed.span)
    shadows.fits(ctx, binding, name, given, soft is not None)
    share = drift.share(ctx, binding, given, soft is not None)
    deep = depth.depth(ctx, binding, given, feed, named)
    evicts = eviction.eviction(ctx, binding, given, feed, named)
    place = permuted.order(ctx, scope, binding, name, feed, named, given)
    if fed is not None and share is not None:
        ctx.fail("misplaced-option", "a call of a share feeds the canvas' own tokens", fed.span)
    if binding.use.attention == "canvas" and name is not None:  # it stores nothing
        if given["keep"] is not None:
            help = f"`refresh {binding.use.name}(...)` stores, what predicts does not"
            ctx.fail(
                "misplaced-option", "this model has nothing to keep of a call that predicts", options[0].span, help=help
            )
        given["keep"] = Literal(BOOL, node.span, False)
    site, ctx.calls = ctx.calls, ctx.calls + 1
    unique = hidden = None
    if name is not None:
        found = scope.find(name.name)
        if found is not None and isinstance(found[1], Variable):
            ctx.fail(
                "not-assignable",
                f"`{name.name}` holds a value, so it cannot name the result of a call",
                name.span,
                also=(Label(found[1].span, "assigned here"),),
            )
        unique = ctx.unique(name.name)
        ctx.serial += 1
        hidden = shadows.made(ctx, name, binding, given["shadow"])
        made = Distribution(unique, binding.use.name, feed, ctx.serial, name.span, hidden)
        scope.names[name.name] = made
        if nodes is not None:
            ctx.fed.setdefault(nodes.draft, []).append(made)
        scope.stale.pop(name.name, None)
        ctx.assigned.append((scope.function, name.name))
    span = name.span.to(node.span) if name else node.span
    if options:
        span = span.to(options[-1].span)
    keep, guidance, temperature = given["keep"], given["guidance"], given["temperature"]
    table, rescale = soft or (None, False)
    shadow = Shadow(hidden.name, hidden.feed) if hidden is not None else None
    return Call(
        span,
        unique,
        binding.use.name,
        feed,
        keep,
        guidance,
        temperature,
        site,
        condition,
        table,
        rescale,
        shadow,
        share,
        fed,
        deep,
        evicts,
        place,
    )


def _named(node: syntax.Apply) -> dict[str, syntax.Argument]:
    """The arguments that a call knows by name, the first of each."""
    found: dict[str, syntax.Argument] = {}
    for argument in node.arguments:
        if argument.name is not None and argument.name.name in ("self_condition", "tokens", "order", *embeds.ARGUMENTS):
            found.setdefault(argument.name.name, argument)
    return found


def _condition(
    ctx: Context, scope: Scope, argument: syntax.Argument, model: ModelName, name: syntax.Ident | None
) -> Expr:
    """`self_condition: P`."""
    if model.use.attention != "canvas" or name is None:
        ctx.fail(
            "unknown-argument",
            "only a model of canvases that predicts is fed a distribution",
            argument.span,
            help="`model lm: canvas(256)`, then `p = lm(b, self_condition: P)`",
        )
    return whole(ctx, scope, argument.value, "what the model is fed")


def _options(ctx: Context, scope: Scope, options: tuple[syntax.Option, ...]) -> dict[str, Expr | None]:
    out: dict[str, Expr | None] = {"keep": None, "guidance": None, "temperature": None, "shadow": None, "share": None}
    out |= {"depth": None, **dict.fromkeys(eviction.OPTIONS)}
    seen: set[str] = set()
    for option in options:
        name = option.name.name
        if name == "plus":
            ctx.fail(
                "misplaced-option",
                "`plus` stands behind a distribution",
                option.span,
                help="on the next line: `q = p plus x`",
            )
        if name not in out:
            ctx.fail(
                "unknown-argument",
                f"a model call has no `{name}`",
                option.name.span,
                help=suggest(name, out, "options"),
            )
        if name in seen:
            ctx.fail("repeated-argument", f"`{name}` is given twice", option.span)
        seen.add(name)
        if option.value is None:
            out[name] = Literal(BOOL, option.span, False)
        elif name == "keep":
            out[name] = region(ctx, scope, option.value, "what is kept")
        elif name == "shadow":
            out[name] = region(ctx, scope, option.value, "what has shadows")
        else:
            type = INT if name in ("keys", "recent") else FLOAT
            out[name] = value(ctx, scope, option.value, type, f"the {name}")
    guidance = out["guidance"]
    if isinstance(guidance, Literal) and guidance.value == 0:
        out["guidance"] = None
    return out
