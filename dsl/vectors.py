"""Vectors: hidden states, embeddings, and what trained heads make of them."""

from __future__ import annotations

from collections.abc import Iterator

from dcompile.diagnostic import Diagnostic, Label, suggest
from dcompile.dsl import nodes, syntax
from dcompile.dsl.scope import Context, Distribution, ModelName, Scope, Trained, lookup
from dcompile.dsl.values import builtin, described, expression, value
from dcompile.strategy import (
    INT,
    SCORES,
    TOKENS,
    VECTOR,
    VECTORS,
    Accept,
    Applied,
    Area,
    AtLast,
    Draft,
    Embedding,
    Expr,
    Fill,
    Hidden,
    Literal,
    Logits,
    Module,
    Nodes,
    Ranked,
    Stmt,
    Strategy,
    Type,
    at_build,
    walk,
)
from dcompile.trees import Tree, chain

OF_MODELS = ("head", "embedding")
Call = syntax.Apply | syntax.Numbered


def vector(ctx: Context, scope: Scope, node: syntax.Expr, what: str) -> Expr:
    """An expression that must be a vector."""
    found = expression(ctx, scope, node)
    if found.type.base != "vector":
        help = "`p.hidden` of a call, `lm.embedding(token)`, a `state h: float[hidden] = 0`"
        ctx.fail("wrong-type", f"{what} must be a vector", found.span, f"this is {described(found.type)}", help)
    return found


def attribute(ctx: Context, scope: Scope, node: syntax.Attribute | syntax.Method) -> Expr | None:
    """`p.hidden`, `lm.head(x)`, `lm.embedding(token)`, `scores.ranked(rank)`; None for what is none of them."""
    inner, name = node.value, node.name.name
    if name == "ranked" and isinstance(node, syntax.Method):
        return _ranked(ctx, scope, node)
    if not isinstance(inner, syntax.Word) or builtin(scope, inner.span, inner.name) is not None:
        return None
    binding = (scope.find(inner.name) or (None, None))[1]
    if isinstance(binding, ModelName):
        return _of_model(ctx, scope, node, binding)
    if name == "hidden" and isinstance(binding, Distribution):
        lookup(ctx, scope, inner.name, inner.span)
        return _hidden(ctx, scope, node, binding)
    return None


def _hidden(ctx: Context, scope: Scope, node: syntax.Attribute | syntax.Method, dist: Distribution) -> Expr:
    if isinstance(node, syntax.Method):
        ctx.fail("unknown-argument", "`hidden` takes no arguments", node.name.span, help="write `.hidden`")
    if dist.model != ctx.models[0].name:
        help = f"`{ctx.models[0].name}` is the first model here"
        ctx.fail("second-model", "vectors are as wide as the first model's hidden states", node.span, help=help)
    if isinstance(dist.feed, Nodes) and scope.frame is not None:
        nodes.known(ctx, scope, dist, node.span)
        return Hidden(VECTORS, node.span, dist.name)
    if not isinstance(dist.feed, Area) or dist.feed.name != "last":
        title = "the hidden state is read at the nodes of a draft, or at the last position"
        help = "`h = t.last.p.hidden`: at the last node that was accepted; `p = lm(last)`, then `p.hidden`"
        ctx.fail("misplaced-node", title, node.span, help=help)
    return Hidden(VECTOR, node.span, dist.name)


def _of_model(
    ctx: Context, scope: Scope, node: syntax.Attribute | syntax.Method, model: ModelName
) -> Expr:  # fmt: skip
    name = node.name.name
    if name not in OF_MODELS:
        help = suggest(name, OF_MODELS, "parts of a model")
        ctx.fail("unknown-score", f"a model has no `{name}`", node.name.span, help=help)
    if model.use is not ctx.models[0]:
        help = f"`{ctx.models[0].name}` is the first model here"
        ctx.fail("second-model", "the head and the embeddings are those of the first model", node.span, help=help)
    arguments = node.arguments if isinstance(node, syntax.Method) else ()
    if len(arguments) != 1 or arguments[0].name is not None:
        usage = "`lm.head(x)`" if name == "head" else "`lm.embedding(token)`"
        ctx.fail("missing-argument", f"`{name}` takes one argument", node.span, help=usage)
    given = arguments[0].value
    if name == "head":
        of = vector(ctx, scope, given, "what the head takes")
        return Logits(Type("scores", of.type.each), node.span, of)
    token = value(ctx, scope, given, TOKENS, "what is embedded")
    return Embedding(Type("vector", token.type.each), node.span, token)


def _ranked(ctx: Context, scope: Scope, node: syntax.Method) -> Expr:
    """`lm.head(x).ranked(rank)`."""
    of = expression(ctx, scope, node.value)
    if of.type.base != SCORES.base:
        help = "`lm.head(h).ranked(rank)`"
        ctx.fail("wrong-type", "only scores have ranks", of.span, f"this is {described(of.type)}", help)
    if len(node.arguments) != 1 or node.arguments[0].name is not None:
        ctx.fail("missing-argument", "`ranked` takes one argument: which one, from 0", node.span, help="`ranked(rank)`")
    rank = value(ctx, scope, node.arguments[0].value, Type("int", True), "the rank")
    return Ranked(Type("token", of.type.each or rank.type.each), node.span, of, rank)


# ---------------------------------------------------------------- modules


def called(ctx: Context, scope: Scope, node: Call) -> Expr:
    """`step(h, e)`, `head[depth - 1](h)`: what a module makes of vectors."""
    number: Expr = Literal(INT, node.span, 0)
    if isinstance(node, syntax.Numbered):
        name = node.value if isinstance(node.value, syntax.Word) else None
        binding = lookup(ctx, scope, name.name, name.span) if name is not None else None
        if name is None or not isinstance(binding, Trained) or not isinstance(binding.module, Module):
            ctx.fail("wrong-type", "only a module has networks by number", node.value.span, help="`head[depth - 1](h)`")
        number, module = value(ctx, scope, node.number, Type("int", True), "the number of a network"), binding.module
    else:
        found = lookup(ctx, scope, node.function.name, node.function.span)
        assert isinstance(found, Trained) and isinstance(found.module, Module)
        module = found.module
    if not module.takes:
        ctx.fail("wrong-type", f"`{module.name}` goes over a block", node.span, help=f"`{module.name}(x in b)`")
    if len(node.arguments) != len(module.takes) or any(a.name is not None for a in node.arguments):
        also = (Label(module.span, "declared here"),)
        what = f"{len(module.takes)} vector{'s' * (len(module.takes) > 1)}"
        ctx.fail("missing-argument", f"`{module.name}` takes {what}", node.span, also=also)
    args = tuple(vector(ctx, scope, a.value, f"what `{module.name}` takes") for a in node.arguments)
    base = {"number": "float", "scores": "scores"}.get(module.gives, "vector")
    each = number.type.each or any(a.type.each for a in args)
    return Applied(Type(base, each), node.span, module.name, number, args, Literal(INT, node.span, 0))  # type: ignore[arg-type]


def part(ctx: Context, scope: Scope, node: syntax.Index) -> Expr:
    """`block(h)[depth - 1]`: one of the vectors that a module gives."""
    found = expression(ctx, scope, node.value)
    if not isinstance(found, Applied) or found.type.base != "vector" or len(node.items) != 1:
        help = "`block(h)[depth - 1]`, of a module that gives `float[4, hidden]`"
        ctx.fail(
            "table-index", "only tables, `text`, and modules that give several vectors have parts", node.span, help
        )
    which = value(ctx, scope, node.items[0], Type("int", True), "the number of a vector")
    each = found.type.each or which.type.each
    return Applied(Type("vector", each), node.span, found.module, found.number, found.args, which)


# ---------------------------------------------------------------- what the checker says


def unfit(strategy: Strategy) -> list[Diagnostic]:
    """Networks, vectors and ranks by numbers that are not known at the build, or that there are none of."""
    modules = {m.name: m for m in strategy.modules}
    out: list[Diagnostic] = []
    for expr, tree in _placed(strategy):
        first = 0 if tree.size == 1 else 1  # the root is not asked
        match expr:
            case Applied(module=name, number=number, part=which):
                module = modules[name]
                out += _bound(number, tree, first, module.count, f"`{name}` has {module.count} networks", module)
                out += _bound(which, tree, first, module.parts, f"`{name}` gives {module.parts} vectors", module)
            case Ranked(rank=rank):
                out += _bound(rank, tree, first, RANKS, f"a rank is below {RANKS}", None)
    return out


RANKS = 64  # how many of the likeliest tokens a draft may ask for


def _bound(number: Expr, tree: Tree, first: int, limit: int, rule: str, module: Module | None) -> Iterator[Diagnostic]:
    known = at_build(number, tree)
    also = () if module is None else (Label(module.span, "declared here"),)
    if known is None:
        help = "a number, `depth`, `rank`, and what is made of them"
        yield Diagnostic("not-constant", "which one must be known at the build", Label(number.span), also, help)
        return
    wrong = [(n, k) for n, k in enumerate(known) if n >= first and not 0 <= k < limit]
    if wrong:
        node, asked = wrong[0]
        whose = f"a node of depth {tree.depths[node]} asks for" if tree.size > 1 and tree.growth is None else "this is"
        yield Diagnostic("out-of-range", f"{rule}, from 0: {whose} {asked}", Label(number.span), also)


def _placed(strategy: Strategy) -> Iterator[tuple[object, Tree]]:
    """What stands in the expressions of each statement, with the tree whose nodes it is of; that of a root for the
    row."""
    statements = [n for n in walk(strategy.body) if isinstance(n, Stmt)]
    trees = {n.name: n.tree for n in statements if isinstance(n, Draft)}
    seen: set[int] = set()
    for stmt in statements:
        if isinstance(stmt, (Draft, Accept, Fill)):
            tree = stmt.tree if isinstance(stmt, Draft) else trees.get(stmt.draft or "", chain(0))
            if isinstance(stmt, Draft) and stmt.scores is not None and tree.growth is not None:
                tree = chain(tree.depth)
            for node in walk(stmt):
                seen.add(id(node))
                yield node, tree
    for node in walk(strategy.body):
        if isinstance(node, AtLast):
            for inner in walk(node.value):
                if id(inner) not in seen:
                    seen.add(id(inner))
                    yield inner, trees[node.draft]
    for node in walk(strategy.body):
        if isinstance(node, Expr) and id(node) not in seen:
            yield node, chain(0)
