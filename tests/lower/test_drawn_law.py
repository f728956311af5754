"""Lossless, proved, of tokens that are drawn from a head's scores: draft, rule and commit in one graph, in float64.

Every draft is asked for by the numbers that draw it, at both ends of where they do. So what the graph drafts has the
probability that was reckoned for it, and what it says it was drawn from is what the rule is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from unittest import mock

import pytest
import torch
from torch import Tensor

from dcompile.backends.eager.run import interpret
from dcompile.dsl import load
from dcompile.lower import _inputs, drafts, heads, trees
from dcompile.lower.context import Context, Dist, Nodes, used
from dcompile.lower.expressions import value
from dcompile.lower.variables import declare
from dcompile.lower.vectors import few
from dcompile.ops import FLOOR
from dcompile.record import Recorder
from dcompile.source import Source
from dcompile.strategy import ACCEPT, Accept, Call, Draft, Strategy, walk
from dcompile.strategy.drafts import Drawn, Rule
from dcompile.trees import Tree, chain, expand
from tests.lower.law import law_error, model
from tests.lower.test_commit_law import CAPACITY, RULES, committed, controls
from tests.passes.rows import model as tiny

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def strategy(rule: Rule, tree: Tree, drawn: Drawn, rows: int) -> Strategy:
    shape = [list(route) for route in tree.routes[1:]]
    text = f"""strategy s {{
  model lm: causal
  state h: float[hidden] = 0
  {f'rows masks[{rows}] = "masks.safetensors"' if rows else ""}
  tree shape = {shape}
  canvas answer = empty(length)
  repeat {{
    draft t = shape {"with masks" if rows else ""} from last {{ scores = lm.head(h) }} drawing {drawn}
    p = lm(t)
    accept t by {rule}(p, t.q)
  }} until eos
}}"""
    return load(Source("s.dcs", text))


def turn(rule: Rule, tree: Tree, drawn: Drawn, vocab: int, batch: int, rows: int = 0) -> Step:
    """`draft` and `accept`; inputs are the scores, what the model says, and the numbers that draw and that judge."""
    text, n = strategy(rule, tree, drawn, rows), tree.size
    lm = replace(tiny(), facts=replace(tiny().facts, vocab=vocab))
    recorder = Recorder({})
    ctx = Context(text, lm, recorder, batch, CAPACITY, True, value, models=used(text, {"lm": lm}))
    draft, call, accept = (next(x for x in walk(text.body) if isinstance(x, kind)) for kind in (Draft, Call, Accept))
    with recorder.recording():
        scores, p = (recorder.input(name, (batch, n, vocab), torch.float64) for name in ("scores", "p"))
        own, u = (recorder.input(name, (batch, n), torch.float64) for name in ("own", "u"))
        keys = recorder.input("keys", (batch, lm.facts.kv_heads, n, lm.facts.head_dim), torch.float32)
        _inputs(ctx, 0)
        declare(ctx)
        with (
            mock.patch.object(heads, "said", lambda ctx, stmt, here, level: few(scores, level)),
            mock.patch.object(trees, "uniform", lambda seed, stream, *rest: own if stream < ACCEPT else u),
        ):
            drafts.draft(ctx, draft)
            nodes = replace(ctx.drafts["t"], fresh=dict.fromkeys(range(lm.facts.layers), (keys, keys)))
            assert nodes.width == n * (rows + 1)
            ctx.drafts["t"] = nodes
            ctx.dists["p"] = _said(ctx, call, p, nodes)
            drafts.accept(ctx, accept)
        values = [ctx.values[name] for name in ("tokens", "filled", "stored", "k0")]
        module = recorder.finish([nodes.tokens[:, :n], nodes.live[:, :n], *values])
    names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    rest = controls(batch, vocab, tree)
    rest["keys"] = torch.arange(n, dtype=torch.float32).reshape(1, 1, n, 1).expand(keys.shape)

    def run(drafted: Tensor, live: Tensor, p: Tensor, q: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        low, high = numbers(tree, drawn, drafted, q)
        found = []
        for share in (1e-9, 0.5, 1 - 1e-9):
            given = {**rest, "scores": torch.log(q), "p": p, "u": u, "own": low + share * (high - low)}
            tokens, alive, *others = interpret(module, *[given[name] for name in names])
            assert torch.equal(tokens[:, 1:], drafted[:, 1:]) and torch.equal(alive, live), "another draft"
            found.append(committed(tree, drafted, live, *others))
        assert all(torch.equal(a, b) for other in found for a, b in zip(found[0], other, strict=True))
        return found[0]

    return run


def _said(ctx: Context, call: Call, p: Tensor, nodes: Nodes) -> Dist:
    logits = torch.where(p > 0, torch.log(torch.where(p > 0, p, 1.0)), FLOOR)
    rows = torch.zeros(p.shape[0], nodes.width - p.shape[1], p.shape[2], dtype=p.dtype)  # of those behind the nodes
    return Dist(call.site, torch.cat([logits, rows], 1), nodes, False, True, None, None, dict(ctx.values), nodes.live)


def numbers(tree: Tree, drawn: Drawn, tokens: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Between which numbers [B, n] each token is drawn, by the inverse CDF of what q has left for it."""
    low, high = torch.zeros_like(q[:, :, 0]), torch.ones_like(q[:, :, 0])
    for parent in range(tree.size):
        left = q[:, parent].clone()
        for child in tree.children[parent]:
            token = tokens[:, child : child + 1]
            if drawn != "greedy" or child == tree.children[parent][-1]:
                ends = (left / left.sum(1, keepdim=True)).cumsum(1)
                high[:, child] = ends.gather(1, token)[:, 0]
                low[:, child] = torch.where(token > 0, ends.gather(1, (token - 1).clamp(min=0)), 0.0)[:, 0]
            if drawn != "sample":
                left = left.scatter(1, token, 0.0)
    return low, high


SLOW = [("greedy", "greedy"), ("traversal", "distinct"), ("kseq", "sample")]


@pytest.mark.parametrize(
    ("rule", "drawn", "tree"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[:2] in SLOW else []) for case in RULES],
)
def test_what_heads_draft_and_a_rule_commits_has_the_law_of_plain_sampling(
    rule: Rule, drawn: Drawn, tree: Tree
) -> None:
    target, head = model(3, tree.depth + 1, 3), model(3, tree.depth + 1, 103)
    assert law_error(rule, tree, drawn, target, head, build=turn) < 1e-12


@pytest.mark.parametrize(
    ("rule", "drawn", "tree"), [("rejection", "sample", chain(2)), ("recursive_distinct", "distinct", expand(2))]
)
def test_rows_behind_the_nodes_have_no_part_in_it(rule: Rule, drawn: Drawn, tree: Tree) -> None:
    target, head = model(3, tree.depth + 1, 3), model(3, tree.depth + 1, 103)
    assert law_error(rule, tree, drawn, target, head, build=partial(turn, rows=2)) < 1e-12


def test_scores_of_another_node_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: what the rule is told is not what was drawn from."""
    right = heads.judged_by
    monkeypatch.setattr(
        heads, "judged_by", lambda ctx, stmt, nodes, laws: right(ctx, stmt, nodes, dict.fromkeys(laws, laws[0]))
    )
    assert law_error("rejection", chain(2), "sample", model(3, 3, 3), model(3, 3, 103), build=turn) > 1e-3


def test_likeliest_tokens_are_no_draws() -> None:
    assert law_error("recursive", expand(2), "top", model(4, 2, 3), model(4, 2, 103), build=turn) > 1e-3
