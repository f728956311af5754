"""Tokens that are drawn from a head's scores: the program draws the oracle's, and every rule keeps the model's law."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dcompile.dsl import load, soundness
from dcompile.dsl.soundness import accepts
from dcompile.lower import drafter
from dcompile.source import Source
from dcompile.strategy import Strategy
from tests.lower.test_drafts import IN_A_HURRY, LENGTH, PROMPTS, RULES, program
from tests.lower.test_drafts import both as batched
from tests.lower.test_vectors import KEEP, MATCH, MEMBERS, both, folder
from tests.passes.rows import model, oracle, read

__all__ = ["folder"]


def strategy(
    folder: Path, given: str, drawn: str, rest: str = MATCH, behind: str = KEEP, shape: str = "shape"
) -> Strategy:
    text = f"""strategy s {{
  model lm: causal
  {MEMBERS}
  canvas answer = empty(length)
  repeat {{
    draft t = {shape} from last {{ {given} }} drawing {drawn}
    p = lm(t)
    {rest}
    {behind}
  }} until eos
}}"""
    return load(Source("s.dcs", text, folder))


SCORES = {
    "a head for each depth": "scores = lm.head(h + silu(head[depth - 1](h)))",
    "a head of its own": "scores = guess(h * depth)",
    "the same for all": "scores = lm.head(g)",
    "carried down": "h = parent.h + deep(parent.h, lm.embedding(parent.token)); scores = lm.head(h)",
    "by its parent's place": "scores = lm.head(h * (parent.rank + 1))",
    "beside what siblings differ in": "n = parent.n + rank; scores = lm.head(h * (parent.n + 1))",
}
WATCHED = KEEP + "\n table[t.rank mod 4] = t.parent.token where t.depth > 0"


@pytest.mark.parametrize("heat", [0.0, 0.9])
@pytest.mark.parametrize("scores", SCORES)
def test_any_draws_lead_to_plain_decoding(folder: Path, scores: str, heat: float) -> None:
    """What matches is what the model itself draws, whatever was drafted."""
    drawn = "distinct" if heat else "top"
    want, got = both(strategy(folder, SCORES[scores], drawn, behind=WATCHED), heat)
    assert got == want
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    assert [row.answer for row in want] == [row.answer for row in plain]


def ruled() -> list[Any]:
    every = itertools.product(RULES, (0.0, 0.9), ("a head for each depth", "carried down"))
    quick = [(rule, drawn) for rule, drawn, *_ in RULES if (rule, drawn) in IN_A_HURRY]
    return [
        pytest.param(*rule, heat, name, marks=[] if heat and rule[:2] in quick else pytest.mark.slow)
        for rule, heat, name in every
    ]


@pytest.mark.parametrize(("rule", "drawn", "shape", "heat", "scores"), ruled())
def test_rules_keep_what_the_oracle_keeps(
    folder: Path, rule: str, drawn: str, shape: str, heat: float, scores: str
) -> None:
    made = strategy(folder, SCORES[scores], drawn, f"accept t by {rule}(p, t.q)", shape=shape)
    want, got = both(made, heat)
    assert got == want
    ((stmt, draft),) = accepts(made.body)
    assert soundness.judged(made, draft, stmt)[0] == "proved"
    if heat == 0:
        assert [row.answer for row in want] == [row.answer for row in oracle(read("greedy"), PROMPTS, LENGTH)]


@pytest.mark.parametrize("controls", [{"repetition_penalty": 1.7}, {"min_length": 9}, {"top_k": 3, "top_p": 0.8}])
def test_controls_reach_the_draws(controls: dict[str, float]) -> None:
    """A head's tokens are drawn as the model's are: what the controls rule out is never drafted."""
    made = program(
        "expand(2, 2) from last { scores = lm.head(lm.embedding(parent.token)) } drawing distinct",
        "accept t by recursive_distinct(p, t.q)",
    )
    want, got = batched(made, {"lm": model()}, temperature=0.8, seed=1, **controls)
    assert got == want


def test_drawn_in_one_way_and_judged_in_another_shows(folder: Path) -> None:
    """A planted fault: the graph takes the likeliest tokens where draws are asked for."""
    right = drafter._children

    def likeliest(ctx: Any, stmt: Any, *rest: Any) -> Any:
        return right(ctx, replace(stmt, drawn="top"), *rest)

    made = strategy(folder, SCORES["carried down"], "sample", "accept t by recursive(p, t.q)")
    with mock.patch.object(drafter, "_children", likeliest):
        want, got = both(made, 0.9)
    assert got != want
