"""`with share 0.25`: calls that compute in each layer only the positions whose values drifted most (dLLM-Cache)."""

from __future__ import annotations

from collections.abc import Mapping

from dcompile.dsl import options
from dcompile.dsl.scope import Context, ModelName
from dcompile.strategy import Expr, Literal


def share(ctx: Context, model: ModelName, given: Mapping[str, Expr | None], mixed: bool) -> float | None:
    """The share that a call computes, None for an ordinary call."""
    asked = given["share"]
    if asked is None:
        return None
    if model.use.attention != "masked":
        title = "only a model whose positions all attend to each other computes a share of them"
        ctx.fail("misplaced-option", title, asked.span, help="`model lm: masked`")
    refused = ("keep", "guidance", "shadow")
    options.alone(ctx, asked, "a call that computes a share", given, refused, ("embeds",) if mixed else ())
    if not isinstance(asked, Literal):
        ctx.fail("not-constant", "the share must be known at the build", asked.span, help="a number or a `param`")
    if not 0 < asked.value <= 1:
        title = "the share must be above 0 and at most 1"
        ctx.fail("out-of-range", title, asked.span, f"this is {asked.value}")
    return float(asked.value)
