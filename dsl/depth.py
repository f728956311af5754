"""`with depth 0.5`: calls that leave out the layers between the lowest one and the highest (SkipDecode)."""

from __future__ import annotations

from collections.abc import Mapping

from dcompile.diagnostic import Diagnostic, Label
from dcompile.dsl import options, syntax
from dcompile.dsl.scope import Context, ModelName
from dcompile.strategy import Call, Expr, Literal, Strategy, walk


def depth(
    ctx: Context, model: ModelName, given: Mapping[str, Expr | None], feed: Expr, others: Mapping[str, syntax.Argument]
) -> Expr | None:
    """The share of the layers that a call runs, None for an ordinary call; `others`: its arguments that have a name."""
    asked = given["depth"]
    if asked is None:
        return None
    title = "layers are left out where a causal model is fed its last token"
    options.at_last(ctx, model, feed, asked, title, "`p = lm(last) with depth 0.5`")
    options.alone(ctx, asked, "a call that leaves out layers", given, ("keep", "guidance", "shadow", "share"), others)
    if isinstance(asked, Literal) and not 0 < asked.value <= 1:
        title = "the depth must be above 0 and at most 1"
        ctx.fail("out-of-range", title, asked.span, f"this is {asked.value}")
    return asked


def mixed(strategy: Strategy) -> list[Diagnostic]:
    """Calls that would read, in all layers, what a call with a depth stored in some."""
    calls = [n for n in walk(strategy.body) if isinstance(n, Call) and n.model == strategy.models[0].name]
    shallow = [c for c in calls if c.depth is not None]
    if not shallow:
        return []
    also = (Label(shallow[0].span, "layers are left out here"),)
    title = "this call would run layers that know nothing of some positions before"
    return [
        Diagnostic("mixed-depth", title, Label(c.span), also, "say here too how deep it goes: `with depth 1`")
        for c in calls
        if c.depth is None
    ]
