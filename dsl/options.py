"""What several options of a model call ask of it: which model it calls, what it feeds, what else it may be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dcompile.dsl.scope import Context, ModelName
from dcompile.source import Span
from dcompile.strategy import Area, Expr


def of_first_model(ctx: Context, model: ModelName, span: Span) -> None:
    """Refuse it to all models but the first."""
    if model.use is not ctx.models[0]:
        help = f"`{ctx.models[0].name}` is the first model here"
        ctx.fail("second-model", "only the first model of a strategy has this", span, help=help)


def at_last(ctx: Context, model: ModelName, feed: Expr, asked: Expr, title: str, help: str) -> None:
    """Refuse it but where a causal model, the first, is fed its last token."""
    if model.use.attention != "causal" or not (isinstance(feed, Area) and feed.name == "last"):
        ctx.fail("misplaced-option", title, asked.span, help=help)
    of_first_model(ctx, model, asked.span)


def alone(
    ctx: Context, asked: Expr, what: str, given: Mapping[str, Expr | None], refused: Iterable[str],
    arguments: Iterable[str] = (),
) -> None:  # fmt: skip
    """Refuse these other options, and all arguments that have a name: `what` has none."""
    clash = next(iter(arguments), None) or next((n for n in refused if given[n] is not None), None)
    if clash is not None:
        ctx.fail("misplaced-option", f"{what} has no `{clash}`", asked.span)
