"""Lossless, proved, of the whole statement: an `accept` as it is lowered, rule and commit in one graph, in float64.

What stands on the canvas behind it has the law of plain sampling, and the cache holds what was fed of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from dcompile.backends.eager.run import interpret
from dcompile.lower import EOS_SLOTS, _inputs, drafts, ending, sampling, scores, trees
from dcompile.lower.context import Context, Dist, Nodes, used
from dcompile.lower.expressions import value
from dcompile.lower.regions import last_slot
from dcompile.lower.variables import declare
from dcompile.ops import FLOOR
from dcompile.record import Recorder, constant
from dcompile.strategy import Accept, Call, Strategy, walk
from dcompile.strategy.drafts import Drawn, Rule
from dcompile.trees import Tree, chain, expand, paths
from tests.lower import law
from tests.lower.law import law_error, model
from tests.lower.test_accepts import alive
from tests.passes.rows import model as tiny
from tests.passes.rows import read

CAPACITY, START = 8, 3
MATCH = "accept t where token == parent.p.token"


def strategy(accept: str, tree: Tree, drawn: Drawn) -> Strategy:
    shape = [[tree.ranks[n] for n in route[1:]] for route in tree.ancestors[1:]]
    by = "" if accept == MATCH else f"by small drawing {drawn}"
    return read(f"""strategy s {{
  model lm: causal
  {"model small: causal" if by else ""}
  tree shape = {shape}
  canvas answer = empty(length)
  repeat {{
    draft t = shape from last {by or "{ token = token(0) }"}
    p = lm(t)
    {accept}
  }} until eos
}}""")


Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def statement(
    accept: str, tree: Tree, drawn: Drawn, vocab: int, batch: int, eos: int = -1, room: int | None = None
) -> Step:
    """`accept` alone; what stands before it is its inputs: the draft, both laws, the nodes' keys, and the generator's
    numbers u [B, n], one a node, or of sample-match one a depth. Of the canvas behind it: the node and last token. With
    an `eos` or `room` for fewer tokens the text is cut: the text [B, D + 1], -1 behind its end, and its length [B]."""
    text = strategy(accept, tree, drawn)
    lm = replace(tiny(), facts=replace(tiny().facts, vocab=vocab))
    recorder = Recorder({})
    models = used(text, {use.name: lm for use in text.models})
    ctx = Context(text, lm, recorder, batch, CAPACITY, True, value, models=models)
    (stmt,) = (n for n in walk(text.body) if isinstance(n, Accept))
    (call,) = (n for n in walk(text.body) if isinstance(n, Call))
    n, facts = tree.size, lm.facts
    with recorder.recording():
        tokens, live = (
            recorder.input(*x) for x in (("drafted", (batch, n), torch.int64), ("live", (batch, n), torch.bool))
        )
        p, q = (recorder.input(name, (batch, n, vocab), torch.float64) for name in "pq")
        u = recorder.input("u", (batch, n), torch.float64)
        keys = recorder.input("keys", (batch, facts.kv_heads, n, facts.head_dim), torch.float32)
        _inputs(ctx, 0)
        declare(ctx)
        fresh = dict.fromkeys(range(facts.layers), (keys, keys))
        nodes = Nodes(last_slot(ctx), n, tree=tree, tokens=tokens, live=live, q=q, fresh=fresh)
        logits = torch.where(p > 0, torch.log(torch.where(p > 0, p, 1.0)), FLOOR)
        ctx.drafts["t"] = nodes
        ctx.dists["p"] = Dist(call.site, logits, nodes, False, True, None, None, dict(ctx.values), live)
        shared = torch.index_select(u, 1, constant(tree.depths))
        with (
            mock.patch.object(trees, "uniform", lambda *key: u),
            mock.patch.object(sampling, "uniform", lambda *key: shared),
        ):
            drafts.accept(ctx, stmt)
        module = recorder.finish([ctx.values[name] for name in ("tokens", "filled", "stored", "k0")])
    names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    rest = controls(batch, vocab, tree)
    rest["eos"][:1] = eos
    if room is not None:
        rest["length"] = torch.full_like(rest["length"], room)
    node_keys = (
        torch.arange(n, dtype=torch.float32).reshape(1, 1, n, 1).expand(batch, facts.kv_heads, n, facts.head_dim)
    )

    def run(drafted: Tensor, live: Tensor, p: Tensor, q: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        given = {**rest, "drafted": drafted, "live": live, "p": p, "q": q, "u": u, "keys": node_keys}
        found = interpret(module, *[given[name] for name in names])
        if eos >= 0 or room is not None:
            assert torch.equal(found[2].sum(1), found[1]), "the root and the text, but for its last token"
            at = torch.arange(tree.depth + 1)
            return torch.where(at < found[1].unsqueeze(1), found[0][:, START + at], -1), found[1]
        return committed(tree, drafted, live, *found)

    return run


def controls(batch: int, vocab: int, tree: Tree) -> dict[str, Tensor]:
    """A prompt of zeros, temperature 1, and room for the deepest path."""
    off = {"pad": 0, "start": START, "length": tree.depth + 1, "top_k": 0, "min_length": 0, "seed": 0}
    floats = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "penalty": 1.0}
    return {
        "tokens": torch.zeros(batch, CAPACITY, dtype=torch.int64),
        "banned": torch.zeros(vocab, dtype=torch.bool),
        "eos": torch.full((EOS_SLOTS,), -1),
        **{name: torch.full((batch,), number) for name, number in {**off, **floats}.items()},
    }


def committed(
    tree: Tree, drafted: Tensor, live: Tensor, tokens: Tensor, filled: Tensor, stored: Tensor, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """The node whose path stands on the canvas [B], and the token behind it [B]; the cache has to hold that path."""
    at = START + filled - 1
    node = torch.zeros_like(filled)
    for i in range(1, tree.size):
        route = list(tree.ancestors[i][1:])
        same = (tokens[:, START : START + len(route)] == drafted[:, route]).all(1)
        node = torch.where(same & live[:, i] & (filled == len(route) + 1), i, node)
    routes = torch.tensor([[*r, *[-1] * (tree.depth + 1 - len(r))] for r in tree.ancestors])[node]
    kept = keys[:, 0, START - 1 : START + tree.depth, 0]
    assert torch.equal(torch.where(routes >= 0, kept, -1.0), routes.float())
    assert torch.equal(stored.sum(1), filled), "the root and the path, not the last token"
    return node, tokens.gather(1, at.unsqueeze(1)).squeeze(1)


def by_rule(rule: Rule, tree: Tree, drawn: Drawn, vocab: int, batch: int) -> Step:
    return statement(f"accept t by {rule}(p, t.q)", tree, drawn, vocab, batch)


RULES: list[tuple[Rule, Drawn, Tree]] = [
    ("rejection", "sample", chain(2)),
    ("block", "sample", chain(2)),
    ("recursive", "sample", expand(2, 1)),
    ("recursive_distinct", "distinct", expand(2, 1)),
    ("greedy", "greedy", expand(2, 1)),
    ("kseq", "sample", expand(2)),
    ("traversal", "sample", expand(2)),
    ("traversal", "distinct", expand(2, 1)),
]


@pytest.mark.parametrize(("rule", "drawn", "tree"), RULES)
def test_what_a_rule_commits_has_the_law_of_plain_sampling(rule: Rule, drawn: Drawn, tree: Tree) -> None:
    target, drafter = model(3, tree.depth + 1, 3), model(3, tree.depth + 1, 103)
    assert law_error(rule, tree, drawn, target, drafter, build=by_rule) < 1e-12


def test_the_tree_that_is_committed_is_the_one_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault in the commit: the path of the next node."""
    right = trees.paths
    monkeypatch.setattr("dcompile.lower.trees.paths", lambda tree: torch.flip(right(tree), [0]))
    target, drafter = model(3, 3, 3), model(3, 3, 103)
    with pytest.raises(AssertionError):
        assert law_error("recursive", expand(2, 1), "sample", target, drafter, build=by_rule) < 1e-12


# ---------------------------------------------------------------- sample-match


def match_error(tree: Tree, drawn: Drawn, target: law.Model, drafter: law.Model) -> float:
    """One number a depth serves all its nodes: its steps are where some node's cumulative law has them. Between them
    the outcome is one: the graph is asked at two points of each cell."""
    found = law.drafts(tree, drafter, drawn)
    p = law.rows(target, tree, found)
    parts = []
    for depth in range(tree.depth + 1):
        nodes = [i for i in range(tree.size) if tree.depths[i] == depth]
        ends = p[:, nodes].cumsum(-1)[..., :-1].reshape(len(p), -1).sort(1).values
        ends = torch.cat([torch.zeros(len(p), 1), ends, torch.ones(len(p), 1)], 1).double()
        parts.append((ends[:, :-1], ends.diff(dim=1)))
    choices = torch.tensor(list(itertools.product(*[range(low.shape[1]) for low, _ in parts])))
    draft = torch.arange(len(p)).repeat_interleave(len(choices))
    pick = choices.repeat(len(p), 1)
    low, size = (torch.stack([x[i][draft, pick[:, d]] for d, x in enumerate(parts)], 1) for i in (0, 1))
    real = size.min(1).values > 1e-13
    draft, low, size = draft[real], low[real], size[real]
    run = statement(MATCH, tree, drawn, target.vocab, len(draft))
    live = alive(tree, found.tokens)[draft]
    spare = torch.full((len(draft), tree.size - tree.depth - 1), 0.5).double()
    ask = [
        run(found.tokens[draft], live, p[draft], p[draft], torch.cat([low + share * size, spare], 1))
        for share in (0.2, 0.9)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*ask, strict=True)), "a step that was not known"
    node, bonus = ask[0]
    weight = size.prod(1) * found.weight[draft]
    chance = torch.nn.functional.one_hot(bonus, target.vocab) * weight.unsqueeze(1)
    return law.compare(target, found.prefix[draft, node], torch.tensor(tree.depths)[node], chance)


UNEVEN = paths([[0], [1], [0, 0], [0, 1], [1, 0]])


MATCHED: list[tuple[Drawn, Tree]] = [
    ("sample", chain(2)),
    ("top", chain(2)),
    ("sample", expand(2, 1)),
    ("distinct", expand(2, 1)),
    ("greedy", expand(2, 1)),
    ("top", paths([[0], [1], [0, 0], [0, 1], [1, 0]])),
]


@pytest.mark.parametrize(("drawn", "tree"), MATCHED)
def test_sample_match_has_the_law_whatever_was_drafted(drawn: Drawn, tree: Tree) -> None:
    assert match_error(tree, drawn, model(3, 3, 3), model(3, 3, 103)) < 1e-12


def test_a_second_draw_behind_a_miss_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of shipped nucleus modes: the token that did not match is thrown away, and another one drawn."""
    right = scores.token

    def again(ctx: Context, dist: Dist, frame: Nodes) -> Tensor:
        return torch.flip(right(ctx, dist, frame), [1])

    monkeypatch.setattr(scores, "token", again)
    assert match_error(chain(2), "sample", model(3, 3, 3), model(3, 3, 103)) > 1e-3


# ---------------------------------------------------------------- a text that ends

Points = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def points(rule: str, tree: Tree, drawn: Drawn) -> Points:
    """Every draft, with what both models say, under many numbers: tokens, live, p, q, u."""
    target, drafter = model(3, tree.depth + 1, 3), model(3, tree.depth + 1, 103)
    found = law.drafts(tree, drafter, drawn)
    some = torch.arange(len(found.weight)).repeat_interleave(32)
    u = torch.rand((len(some), tree.size), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    live, p, q = alive(tree, found.tokens), law.rows(target, tree, found), law.rows(drafter, tree, found)
    return found.tokens[some], live[some], p[some], q[some], u


def cut_wrongly(rule: str, tree: Tree, drawn: Drawn, eos: int, room: int) -> int:
    """How often a text that is cut, at an end token or where the canvas is full, is not the beginning of the whole one.
    Where it is, its law is that of plain sampling that ends there, since the whole one's is."""
    given = points(rule, tree, drawn)
    accept = MATCH if rule == "match" else f"accept t by {rule}(p, t.q)"
    node, bonus = statement(accept, tree, drawn, 3, len(given[0]))(*given)
    cut, length = statement(accept, tree, drawn, 3, len(given[0]), eos, room)(*given)
    wrong = 0
    for tokens, end, last, text, n in zip(
        given[0].tolist(), node.tolist(), bonus.tolist(), cut.tolist(), length, strict=True
    ):
        whole = [*(tokens[i] for i in tree.ancestors[end][1:]), last][:room]
        whole = whole[: whole.index(eos) + 1] if eos in whole else whole
        wrong += text[: int(n)] != whole
    return wrong


CUT = [
    ("rejection", "sample", chain(3)),
    pytest.param("match", "top", UNEVEN, marks=pytest.mark.slow),
    pytest.param("recursive_distinct", "distinct", expand(2, 1), marks=pytest.mark.slow),
    pytest.param("traversal", "sample", expand(2, 1), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("rule", "drawn", "tree"), CUT)
def test_a_text_that_ends_is_the_beginning_of_the_whole_one(rule: str, drawn: Drawn, tree: Tree) -> None:
    for eos, room in ((2, tree.depth + 1), (-1, 2), (1, 2)):
        assert cut_wrongly(rule, tree, drawn, eos, room) == 0


def test_an_end_token_that_is_overlooked_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "is_eos", lambda ctx, tokens: torch.zeros_like(tokens, dtype=torch.bool))
    assert cut_wrongly("rejection", chain(3), "sample", 2, 4) > 0
