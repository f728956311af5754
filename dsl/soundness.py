"""Does an `accept` keep the tokens of plain decoding? By how the draft was drawn and by which rule it is judged."""

from __future__ import annotations

from typing import Literal as OneOf

from dcompile.dsl import keeping
from dcompile.strategy import Accept, Draft, Expr, Field, Op, Parent, Score, Stmt, Strategy, walk
from dcompile.trees import Tree

Word = OneOf["proved", "greedy only", "lossy"]

SOUND: dict[str, tuple[str, ...]] = {
    "rejection": ("sample",),
    "recursive": ("sample",),
    "recursive_distinct": ("distinct", "sample"),
    "kseq": ("sample",),
    "block": ("sample",),
    "greedy": ("greedy", "distinct", "sample"),
    "traversal": ("sample", "distinct"),
}
"""The draws that each rule is exact for: enumerated for small vocabularies in the tests of the accept graphs. Some are
more than the rule's paper says: here a token that repeats a sibling's counts as given, the next one is judged by q
without it, and of the children that `greedy` judges only the last has to be a draw."""

WORDS = {
    "sample": "children drawn each for itself (`drawing sample`)",
    "distinct": "children drawn without replacement (`drawing distinct`)",
    "top": "the likeliest tokens (`drawing top`)",
    "greedy": "the likeliest tokens and one draw from the rest (`drawing greedy`)",
}


def accepts(body: tuple[Stmt, ...]) -> list[tuple[Accept, Draft]]:
    """Every `accept` with its draft."""
    nodes = list(walk(body))
    drafts = {n.name: n for n in nodes if isinstance(n, Draft)}
    return [(n, drafts[n.draft]) for n in nodes if isinstance(n, Accept)]


def judged(strategy: Strategy, draft: Draft, accept: Accept) -> tuple[Word, str]:
    """`proved`, `greedy only` (the same tokens at temperature 0) or `lossy`, and why."""
    if accept.rule is not None and accept.where is not None:
        return "lossy", "tokens that the rule refuses are kept where the condition holds"
    if accept.rule is not None and draft.law is not None:
        why = keeping.fault(strategy, draft, accept)
        return (
            ("greedy only", why) if why else ("proved", f"`{accept.rule}` keeps the model's distribution of kept draws")
        )
    if accept.rule is not None:
        return _ruled(draft, accept.rule)
    assert accept.where is not None
    parts = _parts(accept.where)
    if any(_matches(part, accept.dist, ("token", "sample")) for part in parts):
        return "proved", "a drafted token is kept where it is what the model itself proposes there"
    if any(_matches(part, accept.dist, ("top",)) for part in parts):
        return "greedy only", "the likeliest token is kept, which at a temperature need not be the one drawn"
    return "lossy", "a drafted token may be kept that the model did not propose"


def _ruled(draft: Draft, rule: str) -> tuple[Word, str]:
    drawn = draft.drawn
    if drawn in SOUND[rule] or (_single(draft.tree) and drawn in ("sample", "distinct", "greedy")):
        return "proved", f"`{rule}` keeps the model's distribution of {WORDS[drawn]}"
    needs = " or of ".join(WORDS[d] for d in SOUND[rule])
    return "greedy only", f"`{rule}` is exact for {needs}, and these are {WORDS[drawn]}"


def _single(tree: Tree) -> bool:
    """Whether no node has two children: then one draw is as the other, and all rules but `block` are one."""
    return all(len(children) <= 1 for children in tree.bare.children)


def _parts(condition: Expr) -> tuple[Expr, ...]:
    if isinstance(condition, Op) and condition.op == "and":
        return tuple(p for arg in condition.args for p in _parts(arg))
    return (condition,)


def _matches(part: Expr, dist: str, kinds: tuple[str, ...]) -> bool:
    """`token == parent.p.token`, on either side."""
    match part:
        case Op(op="eq", args=(Field(name="token"), Parent(value=Score(dist=of, kind=kind, without=()))) | (
            Parent(value=Score(dist=of, kind=kind, without=())), Field(name="token"))):  # fmt: skip
            return of == dist and kind in kinds
    return False
