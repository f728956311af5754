"""Shadows of a call: what the model would predict where a token stands, if it did not know the token."""

from __future__ import annotations

from collections.abc import Mapping

from dcompile.diagnostic import Diagnostic, Label
from dcompile.dsl import syntax
from dcompile.dsl.scope import Context, Distribution, ModelName
from dcompile.model import Facts
from dcompile.strategy import Call, Expr, Strategy, walk

DRAWS = ("token", "sample")


def fits(
    ctx: Context, model: ModelName, name: syntax.Ident | None, given: Mapping[str, Expr | None], soft: bool
) -> None:
    """`with shadow R` stands behind a named call of a masked model that feeds tokens, once."""
    asked = given["shadow"]
    if asked is None:
        return
    wrong = (
        "a `refresh` has nothing to read" if name is None
        else "only a masked model has shadows" if model.use.attention != "masked"
        else "a call with guidance has no shadows" if given["guidance"] is not None
        else "a call that is fed embeddings has no shadows" if soft
        else ""
    )  # fmt: skip
    if wrong:
        ctx.fail("misplaced-shadow", wrong, asked.span, help="`p = lm(everything) with shadow b`, then `p.shadow.max`")


def made(ctx: Context, name: syntax.Ident, model: ModelName, region: Expr | None) -> Distribution | None:
    """What `p.shadow` is."""
    if region is None:
        return None
    return Distribution(ctx.unique(f"{name.name}_shadow"), model.use.name, region, ctx.serial, name.span)


def of(ctx: Context, dist: Distribution, node: syntax.Attribute) -> Distribution:
    """`p.shadow`."""
    if dist.shadow is None:
        ctx.fail(
            "misplaced-shadow",
            "this call has no shadows",
            node.name.span,
            help="`p = lm(everything) with shadow b` feeds the positions of b a second time, as masks",
            also=(Label(dist.span, "called here"),),
        )
    return dist.shadow


def shifted(strategy: Strategy, facts: Facts) -> list[Diagnostic]:
    """A shifted model predicts a position from the one before, whose token a shadow would have to hide as well."""
    calls = [n for n in walk(strategy.body) if isinstance(n, Call) and n.shadow is not None] if facts.shift else []
    title = "a model that predicts each position from the one before has no shadows"
    help = "choose a checkpoint that predicts a masked position from itself, as LLaDA's do"
    return [Diagnostic("misplaced-shadow", title, Label(n.shadow.region.span), help=help) for n in calls if n.shadow]
