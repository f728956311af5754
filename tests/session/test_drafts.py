"""What a run tells of drafts: how many tokens of them each call accepted, and at which places."""

from __future__ import annotations

from dcompile.result import Result


def result(committed: tuple[int, ...], drafts: int) -> Result:
    return Result((1,), (2, 3), None, 0, len(committed), len(committed), 9, committed, 0.5, "length", drafts)


def test_rejected_drafts_are_never_counted() -> None:
    found = result((3, 0, 1, 2), drafts=3).as_dict()
    assert found["accepted_per_call"] == [2, 0, 1]  # the second call was the drafter's
    assert found["accepted_by_position"] == [2, 1, 0]
    assert "drafts" not in found


def test_without_drafts_nothing_is_said_of_them() -> None:
    assert "accepted_per_call" not in result((1, 1), drafts=0).as_dict()
