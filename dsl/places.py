"""Where names may stand: the words of the canvas, and those of the nodes of a draft."""

from __future__ import annotations

from dcompile.dsl.scope import NODE_WORDS, REGION_WORDS, Binding, Context, Scope, Value, Variable
from dcompile.source import Span
from dcompile.strategy import Expr, Own, Type


def word(ctx: Context, scope: Scope, span: Span, name: str) -> None:
    """The words of nodes stand where values are those of nodes, the words of the canvas elsewhere."""
    frame = scope.frame
    if name == "text":
        ctx.fail("table-index", "`text` is read one token at a time", span, help="`text[i]`, from 0 on")
    if name in NODE_WORDS and frame is None:
        help = (
            "they stand in the braces of a `draft`, behind `accept ... where`, and as `t.depth` in what fills a table"
        )
        ctx.fail("misplaced-node", f"`{name}` is a word of the nodes of a draft", span, help=help)
    if frame is None:
        return
    if name in REGION_WORDS:
        help = "assign what you need of the canvas to a variable before"
        ctx.fail("misplaced-node", f"`{name}` is a region of the canvas: here are nodes of a draft", span, help=help)
    if frame.kind == "table" and name in (*NODE_WORDS, "token", "position"):
        help = f"say of which draft: `t.{name}`"
        ctx.fail("misplaced-node", f"whose `{name}` is meant?", span, help=help)
    if name == "parent":
        ctx.fail("misplaced-node", "`parent` is a node, not a value", span, help="`parent.token`, `parent.p.token`")
    if frame.kind == "draft" and name == "token" and not scope.above:
        help = "`parent.token`, `depth`, `rank`, `position`"
        ctx.fail("misplaced-node", "the node's token is what is being drafted", span, help=help)


def own(scope: Scope, binding: Binding, span: Span) -> Expr | None:
    """A variable of the row of which each node of a draft has its own: known at the parent, and behind the line that
    gives it at the node itself."""
    frame = scope.frame
    if frame is None or not isinstance(binding, Variable) or binding.name not in frame.own:
        return None
    if not scope.above and binding.name not in frame.given:
        return None
    return Own(Type(binding.type.base, True), span, frame.own[binding.name], binding.name)


def variable(ctx: Context, scope: Scope, span: Span, name: str) -> None:
    """A name from outside that has a value for each position of the canvas means nothing at a node."""
    found = scope.find(name)
    if found is None or found[0].frame is scope.frame:
        return
    binding = found[1]
    type = binding.expr.type if isinstance(binding, Value) else binding.type if isinstance(binding, Variable) else None
    if type is not None and type.each:
        title = f"`{name}` has a value for each position of the canvas: here are nodes of a draft"
        ctx.fail(
            "misplaced-node", title, span, help="a node may read a number of the row, a table, and `text[position]`"
        )
