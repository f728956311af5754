"""Draft trees: the program is the oracle's, in a batch and alone; what any draft leads to is plain decoding."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from dcompile.controls import Controls
from dcompile.lower import lower
from dcompile.models import Model
from dcompile.passes.cut import cut
from dcompile.passes.facts import cache_traffic
from dcompile.passes.pipeline import optimise
from dcompile.program import Program
from dcompile.reference import run
from dcompile.strategy import Strategy
from tests.passes.rows import EOS, Row, compiled, model, oracle, read

PROMPTS = [(12, 13, 14), (5, 6, 5, 6, 5)]
LENGTH = 8
MATCH = "accept t where token == parent.p.token"


def program(draft: str, rest: str = MATCH, members: str = "", before: str = "", behind: str = "") -> Strategy:
    """A strategy that drafts, feeds the tree, and keeps some of it."""
    return read(f"""strategy s {{
  model lm: causal
  {members}
  canvas answer = empty(length)
  repeat {{
    {before}
    draft t = {draft}
    p = lm(t)
    {rest}
    {behind}
  }} until eos
}}""")


@cache
def drafter(layers: int = 1) -> Model:
    """A smaller model than the target, of other weights; with two layers it is the target itself."""
    target = model()
    if layers == 2:
        return target
    other = replace(model(seed=8), facts=replace(target.facts, layers=1))
    del other.backbone.layers[1:]  # type: ignore[union-attr, arg-type]
    return other


def both(strategy: Strategy, models: dict[str, Model], **controls: float) -> tuple[list[Row], list[Row]]:
    """The oracle's rows, each alone, and the program's, in a batch."""
    want = []
    for r, prompt in enumerate(PROMPTS):
        chosen = Controls(eos_ids=(EOS,), **controls)  # type: ignore[arg-type]
        chosen = replace(chosen, seed=chosen.seed + r)
        found = run(strategy, models, prompt, length=LENGTH, sampling=chosen)
        answer = found.output_ids
        want.append(Row(answer, found.order[: len(answer)], found.model_calls, found.positions_fed))
    return want, compiled(batched(strategy, *models.values()), PROMPTS, LENGTH, **controls)


@cache
def batched(strategy: Strategy, *models: Model) -> Program:
    """The program for two rows; the models in the order of the strategy's."""
    named = dict(zip([use.name for use in strategy.models], models, strict=True))
    return lower(strategy, named, batch=2, capacity=20)


FREE = {
    "found in the text": program(
        "chain(5) from last { token = text[at + depth - 1] if at >= 0 else none }",
        before="at = found(2)\n at = found(1) if at < 0 else at",
    ),
    "the latest place": program(
        "chain(3) from last { token = text[at + depth - 1] if at >= 0 else none }", before="at = found(1, latest)"
    ),
    "a table of the likeliest": program(
        "shape from last { token = table[parent.token, rank] }",
        members="state table: token[vocab, 4] = 0\n tree shape = expand(4, 2, 2)", behind="table[t.token] = p.top(4)",
    ),
    "guesses carried on": program(
        "chain(4) from last { token = window[depth - 1] }",
        members="state window: token[4] = 3", behind="window[t.depth - t.accepted - 1] = p.token",
    ),
    "no draft at all": program("chain(2) from last { token = none }"),
}  # fmt: skip


@pytest.mark.parametrize("heat", [0.0, 0.9])
@pytest.mark.parametrize("name", FREE)
def test_any_draft_leads_to_plain_decoding(name: str, heat: float) -> None:
    want, got = both(FREE[name], {"lm": model()}, temperature=heat, seed=3)
    assert got == want
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    assert [row.answer for row in want] == [row.answer for row in plain]
    assert all(a.calls <= b.calls for a, b in zip(want, plain, strict=True))


QUICK = [("chain(3)", "sample", 0.0), ("shape", "distinct", 0.9), ("shape", "greedy", 0.9)]


def drawings() -> list[Any]:
    """Every shape with every way of drawing; those that are not quick run with `make test-all`."""
    every = itertools.product(["chain(3)", "shape"], ["sample", "distinct", "top", "greedy"], [0.0, 0.9])
    return [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in every]


@pytest.mark.parametrize(("shape", "drawn", "heat"), drawings())
def test_a_second_model_drafts(shape: str, drawn: str, heat: float) -> None:
    members = "model small: causal\n tree shape = expand(3, 2)"
    strategy = program(f"{shape} from last by small drawing {drawn}", members=members)
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    for layers in (1, 2) if heat == 0 else (1,):
        want, got = both(strategy, {"lm": model(), "small": drafter(layers)}, temperature=heat, seed=3)
        assert got == want
        assert [row.answer for row in want] == [row.answer for row in plain]
    depth = 3 if shape == "chain(3)" else 2
    turns = -(-LENGTH // (depth + 1))
    if heat == 0:  # the target itself is right every time
        assert [row.calls for row in got] == [turns * (depth + 1)] * 2


RULES = [
    ("rejection", "sample", "chain(3)"),
    ("block", "sample", "chain(3)"),
    ("recursive", "sample", "expand(2, 2)"),
    ("recursive_distinct", "distinct", "expand(2, 2)"),
    ("kseq", "sample", "expand(3, 1)"),
    ("greedy", "greedy", "expand(3, 2)"),
    ("traversal", "sample", "expand(2, 2)"),
    ("traversal", "distinct", "expand(2, 2)"),
]


IN_A_HURRY = [
    ("rejection", "sample"),
    ("recursive_distinct", "distinct"),
    ("greedy", "greedy"),
    ("traversal", "sample"),
]


def rules() -> list[Any]:
    """Every rule at both temperatures; in a hurry, one of each kind of draft."""
    every = [(*case, heat) for case in RULES for heat in (0.0, 0.9)]
    return [pytest.param(*c, marks=[] if c[3] and c[:2] in IN_A_HURRY else pytest.mark.slow) for c in every]


@pytest.mark.parametrize(("rule", "drawn", "shape", "heat"), rules())
def test_rules_keep_what_the_oracle_keeps(rule: str, drawn: str, shape: str, heat: float) -> None:
    members = f"model small: causal\n tree shape = {shape}"
    strategy = program(f"shape from last by small drawing {drawn}", f"accept t by {rule}(p, t.q)", members)
    want, got = both(strategy, {"lm": model(), "small": drafter()}, temperature=heat, seed=3)
    assert got == want
    if heat == 0:
        plain = oracle(read("greedy"), PROMPTS, LENGTH)
        assert [row.answer for row in want] == [row.answer for row in plain]


@pytest.mark.parametrize("controls", [{"repetition_penalty": 1.7}, {"min_length": 9}, {"banned": (21, 22, 23)}])
def test_controls_reach_every_node(controls: dict[str, float]) -> None:
    strategy = FREE["a table of the likeliest"]
    want, got = both(strategy, {"lm": model()}, temperature=0.8, seed=1, **controls)
    assert got == want
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=0.8, seed=1, **controls)
    assert [row.answer for row in want] == [row.answer for row in plain]


def test_the_later_node_writes_a_cell() -> None:
    """Of two nodes with one token the later one's candidates stay, as the oracle writes them in order."""
    strategy = program(
        "shape from last { token = table[0, rank] }",
        members="state table: token[2, 3] = 7\n tree shape = expand(3, 3)",
        behind="table[t.depth mod 2, t.rank] = p.token",
    )
    want, got = both(strategy, {"lm": model()}, temperature=0.0)
    assert got == want


WEAKER = {
    "typical": "accept t where parent.p.prob(token) > min(0.09, 0.3 * exp(-parent.p.entropy))",
    "among the likeliest": "accept t where parent.p.prob(token) >= 0.5 * parent.p.max or token == parent.p.token",
}


@pytest.mark.parametrize("name", WEAKER)
def test_weaker_conditions_and_what_was_kept(name: str) -> None:
    """Acceptance that changes the tokens, and a table that counts which nodes stayed."""
    strategy = program(
        "shape from last { token = table[parent.token, rank] }", WEAKER[name],
        "state table: token[vocab, 3] = 0\n tree shape = expand(3, 2)\n state seen: int[3, 3] = 0",
        behind="table[t.token] = p.top(3)\n seen[t.depth, t.rank] = seen[t.depth, t.rank] + 1 where t.kept\n"
        " break when seen[2, 0] + seen[2, 1] > 2",
    )  # fmt: skip
    want, got = both(strategy, {"lm": model()}, temperature=0.9, seed=3)
    assert got == want


@pytest.mark.parametrize("loop", ["inside", pytest.param("block", marks=pytest.mark.slow), "step"])
def test_passes_and_cuts(loop: str) -> None:
    """Whatever holds the loop; and inside, what is copied each turn is a short tail, not the caches."""
    strategy = FREE["a table of the likeliest"]
    program = cut(optimise(batched(strategy, model())), loop)
    want = oracle(strategy, PROMPTS, LENGTH, temperature=0.9, seed=3)
    assert compiled(program, PROMPTS, LENGTH, temperature=0.9, seed=3) == want
    if loop == "inside":
        carried, whole = cache_traffic(optimise(lower(strategy, model(), capacity=512)))
        assert 0 < carried < 0.1 * whole
