"""Mixed embeddings: `lm(b, embeds: table)`, fed in place of the tokens' own."""

from __future__ import annotations

from collections.abc import Mapping

from dcompile.dsl import syntax
from dcompile.dsl.scope import Context, ModelName, Scope
from dcompile.dsl.values import described, value
from dcompile.strategy import BOOL, TABLE, Expr, Literal

ARGUMENTS = ("embeds", "rescale")


def mixed(
    ctx: Context, scope: Scope, named: Mapping[str, syntax.Argument], model: ModelName, guidance: Expr | None
) -> tuple[Expr, bool]:
    """The table of weights, and whether the sum is rescaled; `named` are the call's arguments that have a name."""
    given, rescale = named.get("embeds"), named.get("rescale")
    if given is None:
        assert rescale is not None
        help = "`embeds: table, rescale: true`"
        ctx.fail("missing-argument", "there are no embeddings to rescale", rescale.span, help=help)
    if model.use.attention not in ("masked", "block_causal"):
        title = f"a model that is {model.use.attention} is fed tokens, not mixed embeddings"
        ctx.fail("unknown-argument", title, given.span, help="`model lm: masked` or `block_causal(n)`")
    if guidance is not None:
        ctx.fail("misplaced-option", "guidance hides the prompt's tokens, and here are none", guidance.span)
    table = value(ctx, scope, given.value, TABLE, "what is fed")
    if not table.type.wide:
        help = "a weight for each token: `onehot(token)`, `0.3 * probs(P)`, or a `float[canvas, vocab]`"
        title = "what is fed must be a number for each token"
        ctx.fail("wrong-type", title, table.span, f"this is {described(table.type)}", help)
    if rescale is None:
        return table, False
    flag = value(ctx, scope, rescale.value, BOOL, "`rescale`")
    if not isinstance(flag, Literal):
        ctx.fail("not-constant", "`rescale` must be known at the build", rescale.value.span, help="`true` or `false`")
    return table, bool(flag.value)
