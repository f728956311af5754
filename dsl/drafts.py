"""Drafts: `draft`, calls on one, `accept`."""

from __future__ import annotations

from typing import get_args

from dcompile.diagnostic import Label, suggest
from dcompile.dsl import marginals, nodes, rows, syntax, tables, treelike
from dcompile.dsl.scope import (
    WORDS,
    Broken,
    Context,
    Distribution,
    DraftName,
    Failed,
    ModelName,
    Scope,
    Variable,
    lookup,
)
from dcompile.dsl.values import described, expression, value
from dcompile.strategy import REGION, TOKENS, Accept, Draft, Drawn, Expr, Nodes, Rule, Stmt
from dcompile.trees import Tree

DRAWN: tuple[Drawn, ...] = ("sample", "distinct", "top", "greedy")
RULES: tuple[Rule, ...] = get_args(Rule)
ONE_CHILD = ("rejection", "block")


# ---------------------------------------------------------------- draft


def draft(ctx: Context, scope: Scope, node: syntax.Draft) -> Stmt:
    """`draft t = shape from last { token = ... }`, `draft t = chain(4) from last by small drawing sample`."""
    name = node.name
    free(ctx, scope, name)
    shape = treelike.shape(ctx, scope, node.shape)
    shape, behind = rows.appended(ctx, scope, node, shape)
    if node.root.name != "last":
        ctx.fail("wrong-type", "a draft grows from `last`", node.root.span, help=f"`draft {name.name} = ... from last`")
    tokens, law, scores, model, drawn = None, None, None, None, ""
    own: dict[str, Expr] = {}
    unique = ctx.unique(name.name)
    if node.model is not None:
        model, drawn = _drafter(ctx, scope, node.model), _drawn(ctx, node.drawn)
        if shape.growth is not None:
            _only_top(ctx, node.drawn)
            drawn = "top"
    elif shape.growth is not None:
        scores, drawn = marginals.scores(ctx, scope, node), "top"
        _only_top(ctx, node.drawn)
    elif any(line.name.name == "scores" for line in node.given):
        scores, own = marginals.drawn_from(ctx, scope, node, unique, shape)
        drawn = _drawn(ctx, node.drawn)
    else:
        tokens, law, own = _given(ctx, scope, node, unique, shape)
        drawn = "sample" if law is not None else ""
    site, ctx.drafts = ctx.drafts, ctx.drafts + 1
    scope.names[name.name] = DraftName(unique, shape, drawn, model, name.span, tuple(own))  # type: ignore[arg-type]
    carried = tuple(own.items())
    return Draft(node.span, unique, shape, tokens, model, drawn, site, behind, law, carried, scores)  # type: ignore[arg-type]


def free(ctx: Context, scope: Scope, name: syntax.Ident) -> None:
    """A name that a draft may have; fails otherwise."""
    if name.name in WORDS:
        ctx.fail("reserved-name", f"`{name.name}` is a word of the language", name.span, help="choose another name")
    found = scope.find(name.name)
    if found is not None and not isinstance(found[1], (DraftName, Broken)):
        also = (Label(found[1].span, "assigned here"),) if isinstance(found[1], (Variable, Distribution)) else ()
        ctx.fail("not-assignable", f"`{name.name}` is taken, so it cannot name a draft", name.span, also=also)


def _given(
    ctx: Context, scope: Scope, node: syntax.Draft, draft: str, shape: Tree
) -> tuple[Expr, Expr | None, dict[str, Expr]]:
    """`{ token = ... }`; perhaps `q = law[depth - 1]`, what the token was drawn from; values of a node's own."""
    found: dict[str, syntax.Given] = {}
    for given in node.given:
        if given.name.name in found:
            also = (Label(found[given.name.name].span, "first here"),)
            ctx.fail("unknown-argument", f"`{given.name.name}` is said twice", given.name.span, also=also)
        if "token" in found and given.name.name != "q":
            help = "`{ h = ...; token = ... }`"
            ctx.fail("unknown-argument", "a node's own values stand before its token", given.name.span, help=help)
        found[given.name.name] = given
    if node.drawn is not None:
        title = "these tokens are said, so there is nothing to draw from"
        help = "`{ scores = lm.head(h) } drawing sample`"
        ctx.fail("draft-scores", title, node.drawn.span, help=help)
    if "token" not in found:
        ctx.fail("missing-argument", "a draft says its nodes' `token`", node.span, help="`{ token = text[position] }`")
    own, inner = marginals.own(ctx, scope, [g for n, g in found.items() if n not in ("token", "q")], draft, shape)
    tokens = nodes.each(value(ctx, inner, found["token"].value, TOKENS, "what is drafted"))
    if "q" not in found:
        return tokens, None, own
    if node.rows is not None:
        ctx.fail("rule-draws", "a draft with appended rows has no `q`", found["q"].span)
    if any(len(c) > 1 for c in shape.children):
        title = "what tokens were drawn from is kept for chains, and here are siblings"
        ctx.fail("rule-draws", title, found["q"].span, help="`chain(8)`")
    return tokens, tables.law(ctx, inner, found["q"].value), own


def _drafter(ctx: Context, scope: Scope, name: syntax.Ident) -> str:
    binding = lookup(ctx, scope, name.name, name.span)
    known = [m.name for m in ctx.models[1:]]
    help = suggest("", known, "further models") if known else "declare one: `model small: causal`"
    if not isinstance(binding, ModelName):
        ctx.fail("draft-model", f"`{name.name}` is not a model", name.span, help=help)
    if binding.use is ctx.models[0]:
        title = f"`{name.name}` is the model that verifies: it cannot draft for itself"
        ctx.fail("draft-model", title, name.span, help=help, also=(Label(binding.use.span, "the first model"),))
    if binding.use.attention != "causal":
        also = (Label(binding.use.span, "declared here"),)
        ctx.fail("draft-model", "a causal model drafts", name.span, help=f"`model {name.name}: causal`", also=also)
    return binding.use.name


def _only_top(ctx: Context, drawn: syntax.Ident | None) -> None:
    if drawn is not None and _drawn(ctx, drawn) != "top":
        ctx.fail("unknown-argument", "a beam takes the likeliest tokens", drawn.span, help="`drawing top`")


def _drawn(ctx: Context, name: syntax.Ident | None) -> Drawn:
    if name is None:
        return "sample"
    for drawn in DRAWN:
        if drawn == name.name:
            return drawn
    help = suggest(name.name, DRAWN, "ways to draw")
    ctx.fail("unknown-argument", f"nothing is drawn `{name.name}`", name.span, help=help)
    return ""


# ---------------------------------------------------------------- the call


def fits(ctx: Context, model: ModelName, name: syntax.Ident | None, node: syntax.Apply,
         options: tuple[syntax.Option, ...]) -> None:  # fmt: skip
    """What a call on the nodes of a draft must be."""
    if model.use is not ctx.models[0]:
        help = f"`{ctx.models[0].name}` is the first model here"
        ctx.fail("second-model", "the first model of a strategy verifies drafts", node.span, help=help)
    if model.use.attention != "causal":
        also = (Label(model.use.span, "declared here"),)
        ctx.fail("draft-call", "a causal model verifies drafts", node.span, also=also)
    if name is None:
        help = f"`p = {node.function.name}(t)`: `accept` stores what it keeps of the call"
        ctx.fail("draft-call", "a call on a draft has a name", node.span, help=help)
    for option in options:
        if option.name.name != "temperature":
            ctx.fail("draft-call", f"a call on a draft has no `{option.name.name}`", option.span)
    if len(node.arguments) > 1:
        ctx.fail("draft-call", "a call on a draft takes the draft alone", node.arguments[1].span)


def feed(scope: Scope, node: syntax.Expr) -> Nodes | None:
    """The nodes that a call is to be fed."""
    found = nodes.named(scope, node)
    return Nodes(REGION, node.span, found.name) if found is not None else None


# ---------------------------------------------------------------- accept


def accept(ctx: Context, scope: Scope, node: syntax.Accept) -> Stmt:
    """`accept t where ...`, `accept t by rejection(p, t.q)`."""
    given = nodes.named(scope, syntax.Word(node.draft.span, node.draft.name))
    if given is None:
        known = [n for n in scope.visible() if isinstance((scope.find(n) or (0, 0))[1], DraftName)]
        if isinstance((scope.find(node.draft.name) or (0, 0))[1], Broken):
            raise Failed
        help = suggest(node.draft.name, known, "drafts") if known else "`draft t = chain(4) from last ...`"
        ctx.fail("unknown-draft", f"there is no draft `{node.draft.name}` here", node.draft.span, help=help)
    where = None
    if node.where is not None:
        where = _where(ctx, scope.framed(given.frame), node.where)
    rule = _rule(ctx, given, node) if node.rule is not None else None
    dist = _target(ctx, scope, given, node, where)
    site, ctx.accepts = ctx.accepts, ctx.accepts + 1
    return Accept(node.span, given.name, dist.name, where, rule, site)


def _where(ctx: Context, scope: Scope, node: syntax.Expr) -> Expr:
    found = expression(ctx, scope, node)
    if found.type != REGION:
        help = "`where token == parent.p.token`"
        ctx.fail(
            "wrong-type", "a node is accepted by a condition on it", node.span, f"this is {described(found.type)}", help
        )
    return found


def _rule(ctx: Context, draft: DraftName, node: syntax.Accept) -> Rule:
    """The rule, if it can read how the draft was drawn."""
    assert node.rule is not None
    rule = next((r for r in RULES if node.rule is not None and r == node.rule.name), None)
    if rule is None:
        help = suggest(node.rule.name, RULES, "rules")
        ctx.fail("unknown-rule", f"there is no rule `{node.rule.name}`", node.rule.span, help=help)
    also = (Label(draft.span, "drafted here"),)
    if not draft.drawn:
        joined = draft.tree.growth is not None
        why = "joined drafts have no law of their own" if joined else "these were not drawn"
        title = f"`{rule}` reads what the tokens were drawn from, and {why}"
        help = f"`accept {node.draft.name} where token == parent.p.token` fits every draft"
        ctx.fail("rule-draws", title, node.rule.span, help=help, also=also)
    if draft.tree.growth is not None:
        title = "a beam takes the likeliest tokens, and every rule asks for draws"
        help = f"`accept {node.draft.name} where token == parent.p.token` fits every draft"
        ctx.fail("rule-draws", title, node.rule.span, help=help, also=also)
    if rule in ONE_CHILD and any(len(c) > 1 for c in draft.tree.bare.children):
        title = f"`{rule}` is a rule for chains, and here are siblings"
        help = "`recursive` for `drawing sample`, `recursive_distinct` for `drawing distinct`"
        ctx.fail("rule-draws", title, node.rule.span, help=help, also=also)
    return rule


def _target(ctx: Context, scope: Scope, draft: DraftName, node: syntax.Accept, where: Expr | None) -> Distribution:
    """The call on the draft that decides: named by the rule, or read by the condition, or the only one."""
    calls = {d.name: d for d in ctx.fed.get(draft.name, [])}
    if node.arguments is not None:
        return _named(ctx, scope, draft, node, node.arguments)
    read = nodes.calls(where) & calls.keys()
    if len(read) == 1 or (not read and len(calls) == 1):
        return calls[min(read or calls)]
    also = (Label(draft.span, "drafted here"),)
    if not calls:
        title = f"`{node.draft.name}` was fed to no model, so nothing says what to accept"
        help = f"before it: `p = {ctx.models[0].name if ctx.models else 'lm'}({node.draft.name})`"
        ctx.fail("unfed-draft", title, node.span, help=help, also=also)
    help = f"`accept {node.draft.name} by recursive(p, {node.draft.name}.q)`, or a `where` that reads one of them"
    ctx.fail("unfed-draft", "which call on the draft decides?", node.span, help=help, also=also)
    return None


def _named(
    ctx: Context, scope: Scope, draft: DraftName, node: syntax.Accept, arguments: tuple[syntax.Argument, ...]
) -> Distribution:
    """`(p, t.q)`."""
    usage = f"`accept {node.draft.name} by {node.rule.name if node.rule else ''}(p, {node.draft.name}.q)`"
    if len(arguments) != 2 or any(a.name is not None for a in arguments):
        ctx.fail("missing-argument", "a rule takes the call and what was drawn from", node.span, help=usage)
    first, second = arguments[0].value, arguments[1].value
    dist = lookup(ctx, scope, first.name, first.span) if isinstance(first, syntax.Word) else None
    if not isinstance(dist, Distribution):
        ctx.fail("wrong-type", "this is not the result of a model call", first.span, help=usage)
    if not isinstance(dist.feed, Nodes) or dist.feed.draft != draft.name:
        title = f"this call was not fed the nodes of `{node.draft.name}`"
        ctx.fail("unfed-draft", title, first.span, help=usage, also=(Label(dist.span, "called here"),))
    given = nodes.named(scope, second.value) if isinstance(second, syntax.Attribute) else None
    if not isinstance(second, syntax.Attribute) or second.name.name != "q" or given is None:
        ctx.fail("wrong-type", "this is not what the draft was drawn from", second.span, help=usage)
    if given.name != draft.name:
        title = "these are the draws of another draft"
        ctx.fail("rule-draws", title, second.span, help=usage, also=(Label(given.span, "that one"),))
    return dist
