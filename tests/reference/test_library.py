"""What follows from the rules of library files at the ends of their parameters, on a random model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.passes.rows import MASK, Row, oracle, read

PROMPT, LENGTH = (5, 6, 7), 8


def only(name: str, template: tuple[int | None, ...] = (), **settings: Any) -> Row:
    return oracle(read(name, **settings), [PROMPT], LENGTH, shift=True, template=template)[0]


@pytest.mark.parametrize("name", ["dimple", "dimple_margin", "dimple_entropy"])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_dimple_leaves_no_mask_behind_its_last_step(name: str, steps: int) -> None:
    for changes in [{}] if name == "dimple_entropy" else [{"threshold": 2.0}, {"threshold": 0.0}, {"threshold": 0.2}]:
        row = only(name, (None, 9, None, 10), steps=steps, **changes)
        assert MASK not in row.answer and row.order[1] == row.order[3] == 0
        assert row.calls <= min(steps, 6)  # each step commits something


def test_dimple_feeds_the_prompt_once() -> None:
    row = only("dimple", steps=8, threshold=0.0)
    assert row.fed == len(PROMPT) + LENGTH + (row.calls - 1) * (1 + LENGTH)
    assert only("dimple", steps=8, threshold=0.0, prefill=False).fed == row.calls * (len(PROMPT) + LENGTH)


def test_prophet_commits_all_when_its_bound_is_reached() -> None:
    usual: dict[str, Any] = {"block": 4, "steps": 8, "answer_at": 5, "width": 2}
    assert only("prophet", **usual, early=0.0).order == (1,) * 8
    assert max(only("prophet", **usual, early=99.0, mid=0.0).order) == 3  # 3 / 8 is the first progress from 0.33 on
    assert only("prophet", **usual, early=99.0, mid=99.0, late=99.0).calls == 8
    assert only("prophet", **usual | {"answer_at": 8}, early=0.0).calls == 8  # no position, no answer


def test_dparallel_commits_one_or_a_block() -> None:
    assert only("dparallel_dream", block=4, threshold=0.0).calls == 8
    assert only("dparallel_dream", block=4, threshold=99.0).order == (1,) * 4 + (2,) * 4
