"""Scores in the braces of a draft, and what a node has for its own there.

Those of a depth are what a tree grows by: `draft t = beam(8, 16, 16) from last { scores = lm.head(x) }`. Those of the
children of a node are what they are drawn from: `draft t = chain(4) from last { scores = lm.head(x) } drawing sample`.
"""

from __future__ import annotations

from collections.abc import Iterator

from dcompile.diagnostic import Label
from dcompile.dsl import nodes, syntax
from dcompile.dsl.scope import Broken, Context, Failed, Frame, Scope, Variable
from dcompile.dsl.values import described, expression, value
from dcompile.strategy import SCORES, Chance, Expr, Field, NodeFact, Own, Parent, Type, walk
from dcompile.trees import Tree

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
    found = _scores(ctx, scope.framed(Frame("draft", None, ())), given["scores"].value, "a beam goes by scores")
    for part in walk(found):
        if isinstance(part, (Parent, Chance, Own)) or (isinstance(part, Expr) and _of_a_node(part)):
            title = "the scores of a beam are those of a depth, whatever stands above it"
            also = (Label(given["scores"].name.span, "here are scores"),)
            ctx.fail("draft-scores", title, part.span, help="`depth`, `position`, values of the row", also=also)
    return found


def _of_a_node(part: Expr) -> bool:
    """Whether a value tells nodes of one depth apart."""
    return (isinstance(part, NodeFact) and part.name != "depth") or (isinstance(part, Field) and part.name == "token")


# ---------------------------------------------------------------- scores that children are drawn from


def drawn_from(ctx: Context, scope: Scope, node: syntax.Draft, draft: str, shape: Tree) -> tuple[Expr, dict[str, Expr]]:
    """What `{ h = ...; scores = ... }` says where the places are known: the same for all children of a node."""
    *before, last = node.given
    for line in node.given:
        first = next(other for other in node.given if other.name.name == line.name.name)
        if first is not line:
            also = (Label(first.span, "first here"),)
            ctx.fail("unknown-argument", f"`{line.name.name}` is said twice", line.name.span, also=also)
        if line.name.name in ("token", "q"):
            title = f"a draft with scores draws its tokens from them, and is told no `{line.name.name}`"
            ctx.fail("draft-scores", title, line.span, help="`{ scores = lm.head(h) } drawing sample`")
    if last.name.name != "scores":
        help = "`{ h = ...; scores = lm.head(h) }`"
        ctx.fail("unknown-argument", "a node's own values stand before its scores", last.name.span, help=help)
    found, inner = own(ctx, scope, before, draft, shape)
    made = _scores(ctx, inner, last.value, "tokens are drawn from scores")
    for part in _apart(made, found):
        title = "children of one node are drawn from the same scores, and this tells them apart"
        also = (Label(last.name.span, "here are scores"),)
        ctx.fail("draft-scores", title, part.span, help="`depth`, `position`, `parent.x`, values of the row", also=also)
    return made, found


def _scores(ctx: Context, scope: Scope, node: syntax.Expr, wanted: str) -> Expr:
    found = expression(ctx, scope, node)
    if found.type.base != SCORES.base:
        label = f"this is {described(found.type)}"
        ctx.fail("wrong-type", wanted, found.span, label, "`lm.head(x)`, a module `-> float[vocab]`")
    return found


def _apart(expr: Expr, own: dict[str, Expr]) -> Iterator[Expr]:
    """What in a value tells the children of a node apart."""
    waiting: list[object] = [expr]
    while waiting:
        match waiting.pop():
            case Parent():
                pass
            case Own(name=name) if name in own:
                waiting.append(own[name])
            case NodeFact() | Field() as part if _of_a_node(part):
                yield part
            case Expr() as part:
                waiting += vars(part).values()
            case tuple() as parts:
                waiting += parts


# ---------------------------------------------------------------- values of a node's own


def own(
    ctx: Context, scope: Scope, lines: list[syntax.Given], draft: str, shape: Tree
) -> tuple[dict[str, Expr], Scope]:
    """A node's own values by the unique names of the row's variables, and where the token may read them."""
    variables = [_carried(ctx, scope, line.name) for line in lines]
    frame = Frame("draft", None, tuple(dict(shape.facts)), {v.name: draft for v in variables})
    inner, found = scope.framed(frame), {}
    for line, variable in zip(lines, variables, strict=True):
        what = f"`{line.name.name}` of each node"
        found[variable.name] = nodes.each(value(ctx, inner, line.value, Type(variable.type.base, True), what))
        frame.given.add(variable.name)
    return found, inner


def _carried(ctx: Context, scope: Scope, name: syntax.Ident) -> Variable:
    """The row's variable that the root has for its own."""
    found = (scope.find(name.name) or (None, None))[1]
    if isinstance(found, Broken):
        raise Failed
    if not isinstance(found, Variable) or found.type.each:
        title = f"`{name.name}` is no variable of the row, so the root has none of its own"
        help = f"`state {name.name}: float[hidden] = 0`, and set it behind `accept`; the token is `token`"
        ctx.fail("unknown-name", title, name.span, help=help)
    return found
