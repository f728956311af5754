"""A pass never changes a token: programs after each pass, after all, and cut, against the oracle."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from dcompile.passes.base import Stage, run_passes
from dcompile.passes.cut import cut
from dcompile.passes.facts import cache_traffic
from dcompile.passes.pipeline import PASSES, PIPELINE, optimise
from dcompile.program import Program
from dcompile.strategy import Strategy
from tests.passes.rows import Row, compiled, lowered, oracle, read

PROMPTS = [(5, 6, 7), (8, 9, 10, 11, 12), (3,)]
LENGTH = 8
STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "fast_dllm_dual": {"block": 4, "threshold": 0.3},
    "fast_dllm_prefix": {"block": 4, "factor": 2.0},
    "llada": {"block": 4, "steps": 4, "guidance": 1.0},
    "sdar": {"block": 4, "threshold": 0.2},
}
CONTROLS: list[dict[str, Any]] = [
    {"temperature": 1.0, "seed": 3},
    {"temperature": 0.7, "seed": 3, "top_k": 9, "top_p": 0.8, "min_p": 0.05},
    {"repetition_penalty": 1.7},
    {"banned": (4, 17, 33), "min_length": 4},
]


@cache
def strategy(name: str) -> Strategy:
    return read(name, **STRATEGIES[name])


@cache
def wanted(name: str) -> list[Row]:
    return oracle(strategy(name), PROMPTS, LENGTH)


@cache
def program(name: str, loop: str) -> Program:
    """Three rows, after all passes; the cut leaves the program that it is given as it is."""
    return cut(program(name, "inside"), loop) if loop != "inside" else optimise(lowered(strategy(name), len(PROMPTS)))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("loop", ["inside", "block", "step"])
def test_all_passes_and_a_cut(name: str, loop: str) -> None:
    assert compiled(program(name, loop), PROMPTS, LENGTH) == wanted(name)


@pytest.mark.parametrize("name", STRATEGIES)
def test_lowered_alone_and_one_row(name: str) -> None:
    one = lowered(strategy(name))
    assert [compiled(one, [prompt], LENGTH)[0] for prompt in PROMPTS] == wanted(name)


@pytest.mark.parametrize("item", PASSES)
@pytest.mark.parametrize("name", ["greedy", "fast_dllm_dual"])
def test_each_pass_alone(name: str, item: str) -> None:
    changed = run_passes(lowered(strategy(name), 2), [Stage("alone", (PASSES[item],))])
    assert compiled(changed, PROMPTS[:2], LENGTH) == wanted(name)[:2]


@pytest.mark.parametrize("controls", CONTROLS, ids=lambda c: "-".join(c))
@pytest.mark.parametrize("name", ["greedy", "fast_dllm_dual"])
def test_controls(name: str, controls: dict[str, Any]) -> None:
    want = oracle(strategy(name), PROMPTS, LENGTH, **controls)
    assert compiled(program(name, "inside"), PROMPTS, LENGTH, **controls) == want
    plain = oracle(strategy(name), PROMPTS, LENGTH)
    assert want != plain or "banned" in controls, "a control that changes nothing tests nothing"


def test_passes_can_be_left_out_and_counted() -> None:
    seen: list[str] = []
    names = {p.name for stage in PIPELINE for p in stage.passes}
    run_passes(
        lowered(strategy("greedy")), PIPELINE, without=names - {"hoist", "dead-state"}, limit=1,
        observers=[lambda stage, item, result, seconds: seen.append(item.name)],
    )  # fmt: skip
    assert seen == ["hoist"]


@pytest.mark.parametrize("name", ["greedy", "fast_dllm_dual"])
def test_the_inner_loop_carries_little_of_the_caches(name: str) -> None:
    """A canvas much longer than a block or a tail: the rest of the caches is captured, which costs no copy."""
    capacity = 48 if name == "fast_dllm_dual" else 384
    before = lowered(strategy(name), capacity=capacity)
    carried, whole = cache_traffic(before)
    assert carried == whole
    carried, whole = cache_traffic(optimise(before))
    assert 0 < carried < 0.1 * whole


NAMES = """
strategy s {
  model lm: causal
  canvas answer = empty(length)
  state start: int = 1
  state seed: int = 2
  state turn: int = 0
  state next: int = 7
  state tail_k0: int = 0
  repeat {
    p = lm(last)
    append p.token
    turn = turn + start
    start = start + 1
    next = turn mod 5
    seed = seed + next
    tail_k0 = tail_k0 + seed
    stop when tail_k0 > 60
  } until eos
}
"""


@pytest.mark.parametrize("loop", ["inside", "block", "step"])
def test_variables_named_as_what_passes_add(loop: str) -> None:
    found = optimise(lowered(read(NAMES), len(PROMPTS)), loop)
    assert compiled(found, PROMPTS, LENGTH, temperature=0.8) == oracle(read(NAMES), PROMPTS, LENGTH, temperature=0.8)
