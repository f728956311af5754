"""Tables: `state table: token[vocab, 8] = 0`, their cells `table[i, j]`, and what fills them; `text[i]`, `found(n)`."""

from __future__ import annotations

from dcompile.diagnostic import Label, suggest
from dcompile.dsl import dists, nodes, syntax, vectors
from dcompile.dsl.scope import WORDS, Broken, Context, Distribution, Failed, Frame, Scope, Table, lookup
from dcompile.dsl.values import constant, convert, described, expression, indices, value
from dcompile.strategy import (
    FLOAT,
    INT,
    REGION,
    TABLE,
    TOKEN,
    TOKENS,
    VECTOR,
    VOCABULARY,
    Best,
    Entry,
    Expr,
    Fill,
    Found,
    Literal,
    Probabilities,
    Stmt,
    TextAt,
    Type,
)

BASES = ("token", "int", "float")
LARGEST = 1 << 30  # cells of the sides that are known


def is_table(node: syntax.State) -> bool:
    """Whether a state's dimensions are those of a table, not of the canvas."""
    first = node.dimensions[0] if node.dimensions else None
    return first is not None and not (isinstance(first, syntax.Word) and first.name == "canvas")


def sizes(ctx: Context, scope: Scope, node: syntax.State) -> tuple[tuple[int, ...], Type]:
    """How many cells each side of a table has, VOCABULARY where it is one for each token; and what they hold: behind a
    last side `hidden`, vectors."""
    if node.kind.name not in BASES:
        help = suggest(node.kind.name, BASES, "types of tables")
        ctx.fail("unknown-type", f"a table holds no `{node.kind.name}`", node.kind.span, help=help)
    found, cells, sides = [], 1, node.dimensions
    vectors = len(sides) > 1 and isinstance(sides[-1], syntax.Word) and sides[-1].name == "hidden"
    if vectors and node.kind.name != "float":
        ctx.fail("unknown-type", f"a vector holds no `{node.kind.name}`", node.kind.span, help="`float[4, hidden]`")
    for side in sides[:-1] if vectors else sides:
        if isinstance(side, syntax.Word) and side.name == "vocab":
            found.append(VOCABULARY)
            continue
        if isinstance(side, syntax.Word) and side.name == "hidden":
            ctx.fail("table-index", "vectors are the last side of a table", side.span, help="`float[4, hidden]`")
        found.append(constant(ctx, scope, side, "the side of a table", 1))
        cells *= found[-1]
    if cells > LARGEST:
        ctx.fail("out-of-range", f"a table of {cells} cells is too large", node.dimensions[0].span)
    return tuple(found), VECTOR if vectors else Type(node.kind.name)  # type: ignore[arg-type]


# ---------------------------------------------------------------- reading


def index(ctx: Context, scope: Scope, node: syntax.Index | syntax.Numbered) -> Expr:
    """`table[i, j]`, `text[i]`; `head[i](h)` and `block(h)[i]` of modules."""
    if isinstance(node, syntax.Numbered):
        return vectors.called(ctx, scope, node)
    if isinstance(node.value, (syntax.Apply, syntax.Numbered)):
        return vectors.part(ctx, scope, node)
    if not isinstance(node.value, syntax.Word):
        ctx.fail("table-index", "only tables and `text` have cells", node.value.span, help=_help(ctx, scope))
    name = node.value.name
    if name == "text":
        (only, *more) = node.items or (None,)
        if only is None or more:
            ctx.fail("table-index", "`text` has one index: a position", node.span, help="`text[position]`")
        at = value(ctx, scope, only, INT if scope.frame is None else Type("int", True), "a position of the text")
        return TextAt(TOKENS if at.type.each else TOKEN, node.span, at)
    table = _table(ctx, scope, name, node.value)
    given = _indices(ctx, scope, table, name, node.items, node, len(table.sizes))
    return Entry(Type(table.type.base, any(i.type.each for i in given)), node.span, table.name, given)


def _table(ctx: Context, scope: Scope, name: str, node: syntax.Node) -> Table:
    found = scope.find(name)
    if found is not None and isinstance(found[1], Table):
        return found[1]
    if found is not None and isinstance(found[1], Broken):
        raise Failed
    if found is None and name not in WORDS:
        lookup(ctx, scope, name, node.span)
    ctx.fail("table-index", f"`{name}` is no table", node.span, help=_help(ctx, scope))
    return None


def _help(ctx: Context, scope: Scope) -> str:
    known = [n for n in scope.visible() if isinstance((scope.find(n) or (0, 0))[1], Table)]
    return suggest("", known, "tables") if known else "declare one: `state table: token[vocab, 8] = 0`"


def _indices(
    ctx: Context, scope: Scope, table: Table, name: str, items: tuple[syntax.Expr, ...], node: syntax.Node, wanted: int
) -> tuple[Expr, ...]:
    if len(items) != wanted:
        title = f"`{name}` needs {wanted} {'index' if wanted == 1 else 'indices'} here, and is given {len(items)}"
        also = (Label(table.span, "declared here"),)
        help = f"`{name}[{indices(table.sizes[:wanted])}]`"
        ctx.fail("table-index", title, node.span, help=help, also=also)
    return tuple(_one(ctx, scope, item) for item in items)


def _one(ctx: Context, scope: Scope, item: syntax.Expr) -> Expr:
    """An index: an int or a token, of the row or of the nodes."""
    found = expression(ctx, scope, item)
    if found.type.base not in ("int", "token") or found.type.wide:
        ctx.fail("table-index", "an index is an int or a token", found.span, f"this is {described(found.type)}")
    if found.type.each and scope.frame is None:
        help = "read the table in the braces of a `draft`, or with one number for the row"
        ctx.fail("table-index", "an index is one number here", found.span, f"this is {described(found.type)}", help)
    return found


def law(ctx: Context, scope: Scope, node: syntax.Expr) -> Expr:
    """`law[depth - 1]`: a number for each token."""
    help = "`law[depth - 1]` of `state law: float[8, vocab] = 0`"
    found = (
        scope.find(node.value.name) if isinstance(node, syntax.Index) and isinstance(node.value, syntax.Word) else None
    )
    if not isinstance(node, syntax.Index) or found is None or not isinstance(found[1], Table):
        ctx.fail("wrong-type", "`q` is a row of a table: a number for each token", node.span, help=help)
    table = found[1]
    if table.type != FLOAT or table.sizes[-1] != VOCABULARY:
        also = (Label(table.span, "declared here"),)
        ctx.fail("table-index", "`q` is a row of floats, one for each token", node.span, help=help, also=also)
    given = _indices(ctx, scope, table, found[1].name, node.items, node, len(table.sizes) - 1)
    return Entry(TABLE, node.span, table.name, tuple(nodes.each(i) for i in given))


# ---------------------------------------------------------------- filling


def fill(ctx: Context, scope: Scope, node: syntax.Fill) -> Stmt:
    """`table[t.token] = p.top(8)`, `pointer[0] = found(2)`, with a `where` behind."""
    name = node.table.name
    table = _table(ctx, scope, name, node.table)
    frame = Frame("table", None)
    inner = scope.framed(frame)
    behind = node.value if isinstance(node.value, syntax.Where) else None
    given, condition = (behind.region, behind.predicate) if behind is not None else (node.value, None)
    row = _best(ctx, inner, given, table, name) or _probs(ctx, inner, given, table, name)
    index = _indices(ctx, inner, table, name, node.index, node.table, len(table.sizes) - (row is not None))
    what = f"what `{name}` is filled with"
    filled: Expr = row if row is not None else value(ctx, inner, given, Type(table.type.base, True), what)
    where = None
    if condition is not None:
        where = convert(ctx, expression(ctx, inner, condition), REGION, "what stands behind `where`")
    if frame.draft is not None:
        index = tuple(nodes.each(i) for i in index)
        filled = filled if row is not None else nodes.each(filled)
        where = nodes.each(where) if where is not None else None
    return Fill(node.span, table.name, index, filled, frame.draft, where)


def _best(ctx: Context, scope: Scope, node: syntax.Expr, table: Table, name: str) -> Best | None:
    """`p.top(k)`: the last side of the table at once."""
    if not isinstance(node, syntax.Method) or node.name.name != "top" or not isinstance(node.value, syntax.Word):
        return None
    dist = lookup(ctx, scope, node.value.name, node.value.span)
    if not isinstance(dist, Distribution):
        ctx.fail("wrong-type", f"`{node.value.name}` is not a distribution", node.value.span, help="`p = lm(t)`")
    nodes.known(ctx, scope, dist, node.span)
    if len(node.arguments) != 1 or node.arguments[0].name is not None:
        ctx.fail("missing-argument", "`top` takes one argument: how many tokens", node.span, help="`p.top(8)`")
    count = constant(ctx, scope, node.arguments[0].value, "how many tokens", 1)
    if table.sizes[-1] != count or table.type != TOKEN:
        last = "one for each token" if table.sizes[-1] == VOCABULARY else str(table.sizes[-1])
        title = f"{count} tokens fill the last side of a table of tokens"
        also = (Label(table.span, f"`{name}` holds {table.type.base}s, its last side is {last}"),)
        ctx.fail("table-index", title, node.span, also=also)
    return Best(TOKENS, node.span, dist.name, count)


def _probs(ctx: Context, scope: Scope, node: syntax.Expr, table: Table, name: str) -> Expr | None:
    """`probs(p.warped)`, `probs(none)`: the last side of the table at once."""
    if not isinstance(node, syntax.Apply) or node.function.name != "probs":
        return None
    if table.type != FLOAT or table.sizes[-1] != VOCABULARY:
        also = (Label(table.span, f"`{name}` is declared here"),)
        help = f"`state {name}: float[8, vocab] = 0`"
        ctx.fail(
            "table-index", "probabilities fill a last side of one float for each token", node.span, help=help, also=also
        )
    if len(node.arguments) != 1 or node.arguments[0].name is not None:
        ctx.fail(
            "missing-argument", "`probs` takes one distribution", node.span, help="`probs(p.warped)`, `probs(none)`"
        )
    return Probabilities(TABLE, node.span, dists.whole(ctx, scope, node.arguments[0].value, "the argument of `probs`"))


def found(ctx: Context, scope: Scope, node: syntax.Apply, size: syntax.Expr, which: syntax.Expr | None) -> Expr:
    """`found(2)`, `found(2, latest)`."""
    latest = isinstance(which, syntax.Word) and which.name == "latest"
    if which is not None and not latest:
        ctx.fail("wrong-type", "the place is the first one, or `latest`", which.span, help="`found(2, latest)`")
    many = value(ctx, scope, size, INT, "how many tokens must be the same")
    if isinstance(many, Literal) and many.value < 1:
        ctx.fail("out-of-range", "how many tokens must be the same, at least 1", many.span, f"this is {many.value}")
    return Found(INT, node.span, many, latest)
