"""Laws of the published rules: limits in which two of them are the same, on random tables of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcompile.dsl import load
from dcompile.reference import Result, run
from tests.reference.scripted import MASK, scripted

START, LENGTH, BLOCK = 3, 8, 4
few = settings(max_examples=20)
Table = Mapping[int, Mapping[int, float]]

weights = st.lists(st.floats(0.01, 1), min_size=MASK, max_size=MASK)
tables = st.lists(weights, min_size=START + LENGTH, max_size=START + LENGTH).map(
    lambda rows: {i: {t: 0.99 * w / sum(row) for t, w in enumerate(row)} for i, row in enumerate(rows)}
)


def decode(name: str, table: Table, attention: str = "full", **values: Any) -> Result:
    """A standard strategy on eight answer positions of which the table tells what is predicted."""
    model = scripted(table, attention)  # type: ignore[arg-type]
    return run(load(name, values), model, [0] * START, length=LENGTH)


def steps(result: Result) -> tuple[Any, ...]:
    return result.tokens, result.order, result.model_calls


@few
@given(tables)
def test_a_threshold_above_one_commits_one_a_step(table: Table) -> None:
    one = decode("llada", table, block=BLOCK, steps=LENGTH)
    assert steps(decode("fast_dllm_none", table, block=BLOCK, threshold=1.1)) == steps(one)
    assert steps(decode("fast_dllm_none", table, block=BLOCK, factor=1e-6))[0] == one.tokens


@few
@given(tables)
def test_a_threshold_of_zero_commits_a_block_a_step(table: Table) -> None:
    for name in ("fast_dllm_none", "fast_dllm_prefix", "fast_dllm_dual"):
        assert decode(name, table, block=BLOCK, threshold=0.0).model_calls == LENGTH // BLOCK


@few
@given(tables)
def test_blocks_of_one_go_from_left_to_right(table: Table) -> None:
    assert decode("llada", table, block=1, steps=LENGTH).order == tuple(range(1, LENGTH + 1))


@pytest.mark.parametrize("cached", ["fast_dllm_prefix", "fast_dllm_dual"])
@few
@given(table=tables, threshold=st.floats(0, 1))
def test_caches_change_nothing_where_positions_do_not_look_at_each_other(
    cached: str, table: Table, threshold: float
) -> None:
    plain = decode("fast_dllm_none", table, block=BLOCK, threshold=threshold)
    assert steps(decode(cached, table, block=BLOCK, threshold=threshold)) == steps(plain)


@few
@given(tables)
def test_an_entropy_budget_of_nothing_and_of_everything(table: Table) -> None:
    assert decode("eb_sampler", table, block=BLOCK, gamma=0.0).model_calls == LENGTH
    assert decode("eb_sampler", table, block=BLOCK, gamma=1e9).model_calls == LENGTH // BLOCK


@few
@given(tables, st.floats(0, 1), st.integers(0, 9))
def test_leaping_with_one_threshold_is_a_threshold(table: Table, threshold: float, radius: int) -> None:
    leap = decode("local_leap", table, block=BLOCK, strict=threshold, relaxed=threshold, radius=radius)
    assert steps(leap) == steps(decode("fast_dllm_none", table, block=BLOCK, threshold=threshold))


@few
@given(tables, st.floats(0, 1), st.floats(0, 1))
def test_the_first_step_on_one_stretch_of_masks(table: Table, threshold: float, low: float) -> None:
    """Hierarchy's first call in a block: everything above the threshold, and the best."""
    first = decode("hierarchy", table, block=LENGTH, threshold=threshold, low=low)
    best = [max(table[START + i].values()) for i in range(LENGTH)]
    chosen = {i for i in range(LENGTH) if best[i] > threshold} | {best.index(max(best))}
    assert {i for i in range(LENGTH) if first.order[i] == 1} == chosen


@few
@given(tables, st.floats(0, 1))
def test_edits_above_one_never_come(table: Table, threshold: float) -> None:
    usual = {"block": BLOCK, "threshold": threshold}
    plain = decode("llada2", table, "block_causal", **usual)
    assert steps(decode("llada2_edit", table, "block_causal", edit=1.1, extra=0, **usual)) == steps(plain)


@few
@given(tables)
def test_maskgit_in_one_step_and_in_many(table: Table) -> None:
    assert decode("maskgit", table, steps=1).model_calls == 1
    order = decode("maskgit", table, steps=4).order
    left = [sum(call > t for call in order) for t in range(1, 5)]
    assert left == [7, 5, 3, 0]  # floor(8 * cos(pi / 2 * t / 4)), and none behind the last
