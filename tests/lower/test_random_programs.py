"""The oracle and the lowering read the same strategies the same way: random programs, and small ones for each word."""

from __future__ import annotations

from typing import Any

from hypothesis import Phase, given, settings

from dcompile.diagnostic import CompileError
from dcompile.passes.pipeline import optimise
from dcompile.strategy import Strategy
from tests.passes.rows import compiled, lowered, oracle
from tests.strategies import strategies

PROMPTS = [(5, 6, 7), (8, 9, 10, 11, 12)]
LENGTH = 6


def agree(strategy: Strategy, shift: bool = False, length: int = LENGTH, **controls: Any) -> None:
    """Two rows of the program, as lowered, are the oracle's."""
    try:
        want = oracle(strategy, PROMPTS, length, shift, **controls)
    except CompileError:  # a number that only a run can know is wrong
        return
    assert compiled(lowered(strategy, 2, shift=shift), PROMPTS, length, **controls) == want, strategy.text


@settings(max_examples=8, derandomize=True, phases=[Phase.generate])
@given(strategies())
def test_random_programs(strategy: Strategy) -> None:
    agree(strategy)


@settings(max_examples=3, derandomize=True, phases=[Phase.generate])
@given(strategies())
def test_random_programs_optimised(strategy: Strategy) -> None:
    try:
        want = oracle(strategy, PROMPTS, LENGTH)
    except CompileError:
        return
    assert compiled(optimise(lowered(strategy, 2)), PROMPTS, LENGTH) == want, strategy.text
