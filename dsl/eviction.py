"""`with keys n with recent m`: keys and values that are forgotten but for the last ones and those attended most
(Keyformer)."""

from __future__ import annotations

from collections.abc import Mapping

from dcompile.diagnostic import Diagnostic, Label
from dcompile.dsl import options, syntax
from dcompile.dsl.scope import Context, ModelName
from dcompile.strategy import FLOAT, Call, Eviction, Expr, Literal, Strategy, walk


def mixed(strategy: Strategy) -> list[Diagnostic]:
    """Further calls of a model whose keys are forgotten: what they would attend is not said."""
    first = strategy.models[0].name
    fed = [n for n in walk(strategy.body) if isinstance(n, Call) and n.model == first]
    forgetting = next((c for c in fed if c.eviction is not None), None)
    if forgetting is None:
        return []
    also = (Label(forgetting.span, "keys are forgotten here"),)
    title = "a model whose keys are forgotten is called in one place"
    return [Diagnostic("mixed-eviction", title, Label(c.span), also) for c in fed if c is not forgetting]


OPTIONS = ("keys", "recent", "heat")


def eviction(
    ctx: Context, model: ModelName, given: Mapping[str, Expr | None], feed: Expr, others: Mapping[str, syntax.Argument]
) -> Eviction | None:
    """What a call leaves of the keys and values, None for all; `others`: its arguments that have a name."""
    asked = next((e for name in OPTIONS if (e := given[name]) is not None), None)
    if asked is None:
        return None
    keys, recent, heat = (given[name] for name in OPTIONS)
    if keys is None or recent is None:
        help = "`with keys 40 with recent 20`"
        ctx.fail("missing-argument", "how many keys stay, and how many of the last positions", asked.span, help=help)
    title = "keys are forgotten where a causal model is fed its last token"
    options.at_last(ctx, model, feed, asked, title, "`p = lm(last) with keys 40 with recent 20`")
    refused = ("keep", "guidance", "shadow", "share", "depth")
    options.alone(ctx, asked, "a call that forgets keys", given, refused, others)
    if isinstance(heat, Literal) and heat.value <= 0:
        ctx.fail("out-of-range", "the heat must be above 0", heat.span, f"this is {heat.value}")
    return Eviction(keys, recent, heat if heat is not None else Literal(FLOAT, asked.span, 1.0))
