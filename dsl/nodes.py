"""What has a value for each node of a draft: `t.token`, `parent.p.token`, the scores of a call on a draft."""

from __future__ import annotations

from dataclasses import replace

from dcompile.dsl import syntax
from dcompile.dsl.scope import Broken, Context, Distribution, DraftName, Failed, Scope, Variable
from dcompile.dsl.values import described, expression
from dcompile.source import Span
from dcompile.strategy import (
    INT,
    REGION,
    Accepted,
    AtLast,
    Chance,
    Expr,
    Kept,
    Literal,
    NodeFact,
    Nodes,
    Op,
    Parent,
    Score,
    Type,
    walk,
)

Chain = syntax.Attribute | syntax.Method
FACTS = ("token", "depth", "rank", "position", "parent")


def attribute(ctx: Context, scope: Scope, node: Chain) -> Expr | None:
    """`parent.x`, `t.x`; None for what begins otherwise."""
    root = _root(node)
    if isinstance(root, syntax.Word) and root.name == "parent":
        return _parent(ctx, scope, node, root)
    if isinstance(root, syntax.Word) and isinstance((scope.find(root.name) or (0, 0))[1], Broken):
        raise Failed
    if (draft := named(scope, root)) is not None:
        return _of_draft(ctx, scope, node, draft)
    return None


def named(scope: Scope, node: syntax.Expr) -> DraftName | None:
    """The draft that a word names."""
    found = scope.find(node.name) if isinstance(node, syntax.Word) else None
    return found[1] if found is not None and isinstance(found[1], DraftName) else None


def _root(node: syntax.Expr) -> syntax.Expr:
    while isinstance(node, (syntax.Attribute, syntax.Method)):
        node = node.value
    return node


def _behind(node: Chain) -> syntax.Expr:
    """What stands behind the first dot: `p.token` of `parent.p.token`."""
    if isinstance(node.value, (syntax.Attribute, syntax.Method)):
        return replace(node, value=_behind(node.value))
    return syntax.Word(node.name.span, node.name.name)


def _parent(ctx: Context, scope: Scope, node: Chain, root: syntax.Word) -> Expr:
    if scope.frame is None or (scope.frame.kind == "table" and not scope.above):
        expression(ctx, scope, root)  # says where `parent` stands
    frame = scope.frame
    assert frame is not None
    if isinstance(node, syntax.Method) and isinstance(node.value, syntax.Word):
        ctx.fail("wrong-type", f"a node has no `{node.name.name}(...)`", node.name.span, help="`parent.token`")
    behind = _behind(node)
    if not isinstance(node, syntax.Method):
        return _above(ctx, expression(ctx, scope.framed(frame, above=True), behind), node.span)
    inner = expression(ctx, scope, behind)  # its argument is the node's own: `parent.p.prob(token)`
    if not isinstance(inner, Score) or inner.of is None:
        ctx.fail("wrong-type", "this is no value of the parent", node.span, help="`parent.p.prob(token)`")
    return Chance(inner.type, node.span, inner.dist, inner.of, inner.warped, inner.without)


def _above(ctx: Context, value: Expr, span: Span) -> Expr:
    if not value.type.each:
        title = f"this is {described(value.type)} of the row, the same for all nodes"
        ctx.fail("misplaced-node", title, span, help="leave out `parent.`")
    return Parent(value.type, span, value)


def _of_draft(ctx: Context, scope: Scope, node: Chain, draft: DraftName) -> Expr:
    """`t.token`, `t.parent.depth`, `t.kept`; `t.accepted` is a number of the row."""
    behind = _behind(node)
    word = _root(behind)
    assert isinstance(word, syntax.Word)
    if word.name == "last" and isinstance(behind, (syntax.Attribute, syntax.Method)):
        return _at_last(ctx, scope, node, draft, behind)
    if behind == syntax.Word(word.span, "accepted"):
        return Accepted(INT, node.span, draft.name)
    if behind == syntax.Word(word.span, "kept"):
        at(ctx, scope, draft.name, node.span)
        return Kept(REGION, node.span, draft.name)
    root = _root(node)
    assert isinstance(root, syntax.Word)
    if word.name == "q":
        help = f"`accept {root.name} by rejection(p, {root.name}.q)`"
        ctx.fail(
            "misplaced-node", "what a draft was drawn from stands only in a rule of `accept`", node.span, help=help
        )
    facts = dict(draft.tree.facts)
    binding = (scope.find(word.name) or (0, 0))[1]
    owned = isinstance(binding, Variable) and binding.name in draft.own
    if word.name not in (*FACTS, *facts) and not owned:
        known = ", ".join(f"`{n}`" for n in (*FACTS, *facts, *draft.own, "accepted", "kept", "last"))
        ctx.fail("unknown-score", f"a node has no `{word.name}`", word.span, help=f"known are {known}")
    at(ctx, scope, draft.name, node.span)
    if word.name in facts and behind == word:
        return NodeFact(Type("int", True), node.span, word.name)
    inner = expression(ctx, scope.framed(draft.frame), behind)
    return replace(inner, span=node.span)


def _at_last(ctx: Context, scope: Scope, node: Chain, draft: DraftName, behind: Chain) -> Expr:
    """`t.last.p.hidden`: a number or a vector of the row, at the last node that was accepted."""
    inner = expression(ctx, scope.framed(draft.frame), _behind(behind))
    if not inner.type.each:
        ctx.fail("misplaced-node", f"this is {described(inner.type)} of the row, the same for all nodes", node.span)
    if inner.type.base == "scores":
        ctx.fail("wrong-type", "scores are read where they are made", node.span, help="`lm.head(x).ranked(0)`")
    return AtLast(Type(inner.type.base), node.span, draft.name, inner)


def at(ctx: Context, scope: Scope, draft: str, span: Span) -> None:
    """Values of the nodes of a draft may stand here: notes it, or fails."""
    frame = scope.frame
    if frame is None:
        help = "they stand in the braces of a `draft`, behind `accept ... where`, and in what fills a table"
        ctx.fail("misplaced-node", "this has a value for each node of a draft", span, help=help)
    if frame.kind == "draft":
        title = "what is drafted cannot read a draft or a call on one"
        ctx.fail("misplaced-node", title, span, help="`parent.token`, `depth`, `rank`, `position`, tables, `text[i]`")
    if frame.draft not in (None, draft):
        ctx.fail("misplaced-node", "this is of another draft", span, f"here are the nodes of `{frame.draft}`")
    frame.draft = draft


def known(ctx: Context, scope: Scope, dist: Distribution, span: Span) -> None:
    """A score of a call on a draft stands where nodes are meant, any other one where positions are."""
    if isinstance(dist.feed, Nodes):
        at(ctx, scope, dist.feed.draft, span)
    elif scope.frame is not None:
        title = "this call was fed positions of the canvas: here are nodes of a draft"
        ctx.fail("misplaced-node", title, span, help="`p = lm(t)` feeds the nodes of the draft `t`")


def canvas(ctx: Context, scope: Scope, dist: Distribution, span: Span) -> None:
    """Only a call on positions of the canvas can stand here."""
    if isinstance(dist.feed, Nodes):
        title = "a whole distribution is kept for positions of the canvas, and this call was fed the nodes of a draft"
        ctx.fail("misplaced-node", title, span, help="what a table can keep: `table[t.token] = p.top(8)`")


def each(value: Expr) -> Expr:
    """A value of the row as one for each node."""
    if value.type.each:
        return value
    depth = NodeFact(Type("int", True), value.span, "depth")
    always = Op(REGION, value.span, "ge", (depth, Literal(INT, value.span, 0)))
    return Op(Type(value.type.base, True), value.span, "select", (always, value, value))


def calls(value: Expr | None) -> set[str]:
    """The calls whose scores a value reads."""
    return {n.dist for n in walk(value) if isinstance(n, (Score, Chance))}
