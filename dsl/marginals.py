"""Scores by depth, from which a tree grows: `draft t = beam(8, 16, 16) from last { scores = lm.head(x) }`."""

from __future__ import annotations

from dcompile.diagnostic import Label
from dcompile.dsl import syntax
from dcompile.dsl.scope import Context, Frame, Scope
from dcompile.dsl.values import described, expression
from dcompile.strategy import SCORES, Chance, Expr, Field, NodeFact, Own, Parent, walk

HELP = "`draft t = beam(8, 16, 16) from last { scores = lm.head(block(h)[depth - 1]) }`, or `... from last by small`"


def scores(ctx: Context, scope: Scope, node: syntax.Draft) -> Expr:
    """What `{ scores = ... }` says: scores that each depth has for itself."""
    given = {line.name.name: line for line in node.given}
    if "scores" not in given:
        title = "a beam goes where a second model, or scores, find it likely"
        ctx.fail("draft-scores", title, node.shape.span, help=HELP)
    for line in node.given:
        if line is not node.given[0] or line.name.name != "scores":
            other = line if line.name.name != "scores" else node.given[0]
            ctx.fail("draft-scores", "beside its scores a beam is told nothing", other.span, help=HELP)
    found = expression(ctx, scope.framed(Frame("draft", None, ())), given["scores"].value)
    if found.type.base != SCORES.base:
        label = f"this is {described(found.type)}"
        ctx.fail("wrong-type", "a beam goes by scores", found.span, label, "`lm.head(x)`, a module `-> float[vocab]`")
    for part in walk(found):
        if isinstance(part, (Parent, Chance, Own)) or (isinstance(part, Expr) and _of_a_node(part)):
            title = "the scores of a beam are those of a depth, whatever stands above it"
            also = (Label(given["scores"].name.span, "here are scores"),)
            ctx.fail("draft-scores", title, part.span, help="`depth`, `position`, values of the row", also=also)
    return found


def _of_a_node(part: Expr) -> bool:
    """Whether a value tells nodes of one depth apart."""
    return (isinstance(part, NodeFact) and part.name != "depth") or (isinstance(part, Field) and part.name == "token")
