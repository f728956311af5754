"""Laws of verified branches: drafts change no token and take no more calls, unless one that is not the policy's is
accepted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcompile.controls import Controls
from dcompile.reference import Forced, Result, run
from tests.passes.rows import MASK, Row, fits, oracle, read

PROMPTS = st.lists(st.integers(2, 38), min_size=1, max_size=6).map(tuple)
LENGTH = 8


def one(name: str, prompt: tuple[int, ...], controls: dict[str, Any] | None = None, **set_: Any) -> Row:
    return oracle(read(name, **set_), [prompt], LENGTH, **(controls or {}))[0]


@settings(max_examples=8)
@given(PROMPTS, st.sampled_from([2, 3, 5, 8]), st.sampled_from([4, 8]), st.booleans(), st.booleans(), st.booleans())
def test_a_static_policy_with_drafts(
    prompt: tuple[int, ...], width: int, block: int, dual: bool, leftmost: bool, warm: bool
) -> None:
    controls = {"temperature": 1.0, "seed": 11} if warm else {}
    set_: dict[str, Any] = {"block": block, "dual": dual, "leftmost": leftmost}
    wide = one("freedave", prompt, controls, width=width, **set_)
    narrow = one("freedave", prompt, controls, width=1, **set_)
    assert wide.answer == narrow.answer
    assert wide.calls <= narrow.calls
    if not warm:  # otherwise the draws are those of other statements
        assert narrow.answer == one("freedave_static", prompt, **set_).answer


@settings(max_examples=8)
@given(PROMPTS, st.sampled_from([2, 4]), st.sampled_from([0.0, 0.35, 0.7]), st.booleans())
def test_a_block_causal_model_and_a_threshold(
    prompt: tuple[int, ...], width: int, threshold: float, leftmost: bool
) -> None:
    set_: dict[str, Any] = {"block": 4, "threshold": threshold, "leftmost": leftmost}
    wide, narrow = (one("freedave_sdar", prompt, width=w, **set_) for w in (width, 1))
    assert wide.answer == narrow.answer
    assert wide.calls <= narrow.calls
    if threshold == 0.0:
        name = "sdar_sequential" if leftmost else "sdar_static"
        assert narrow.answer == one(name, prompt, block=4, steps=4).answer


@settings(max_examples=4)
@given(PROMPTS, st.sampled_from([2, 4]), st.booleans())
def test_a_shifted_model(prompt: tuple[int, ...], width: int, dual: bool) -> None:
    """Dream's way: the first position of a block is committed by the block's first call."""
    drafted, plain = (
        oracle(read(n, block=4, dual=dual, **w), [prompt], LENGTH, shift=True)[0]
        for n, w in (("freedave", {"width": width}), ("freedave_static", {}))
    )
    assert drafted.answer == plain.answer
    assert drafted.calls <= plain.calls


def test_drafts_save_calls() -> None:
    saved = [one("freedave", (5, 6, n), block=8, width=1).calls - one("freedave", (5, 6, n), block=8).calls
             for n in range(2, 8)]  # fmt: skip
    assert sum(saved) > 0


def test_with_a_threshold_only_equality_keeps_the_tokens() -> None:
    """A draft that lacks some of the policy's tokens is no state of the policy (FreeDave's published match rule)."""
    whole = read("freedave").text
    text = whole[whole.index("strategy freedave") :]
    within = text.replace("accept guess", "accept within guess")
    assert within != text
    prompts = [(a, b, 3) for a in range(2, 14) for b in range(20, 24)]
    set_: dict[str, Any] = {"block": 8, "width": 5, "threshold": 0.25}
    plain = oracle(read(text, **{**set_, "width": 1}), prompts, LENGTH)
    equal, contained = (oracle(read(t, **set_), prompts, LENGTH) for t in (text, within))
    assert [r.answer for r in equal] == [r.answer for r in plain]
    assert [r.answer for r in contained] != [r.answer for r in plain]


@pytest.mark.parametrize("name", ["freedave_eager", "freedave_sdar_eager"])
def test_eager_drafts_take_no_more_calls_than_the_plain_ones(name: str) -> None:
    plain = name.removesuffix("_eager")
    rows = [(one(n, (7, 8, 9), block=4, width=4), n) for n in (plain, name)]
    assert rows[1][0].calls <= rows[0][0].calls
    assert 39 not in rows[1][0].answer


FAMILY = [("freedave", {"block": 8}), ("freedave", {"block": 8, "threshold": 0.4}), ("freedave_sdar", {}),
          ("freedave_eager", {"block": 4}), ("freedave_sdar_eager", {})]  # fmt: skip


@pytest.mark.parametrize(("name", "set_"), FAMILY)
def test_another_engine_is_followed(name: str, set_: dict[str, Any]) -> None:
    """Along its own commits the oracle differs nowhere; where a token is another one, it says so and goes along."""
    strategy, prompt = read(name, **set_), (9, 8, 7, 6)
    model = fits(strategy)

    def follow(forced: Forced | None) -> Result:
        return run(strategy, model, prompt, length=LENGTH, sampling=Controls(eos_ids=()), forced=forced)

    own = follow(None)
    answer = own.tokens[len(prompt) :]
    same = follow(Forced(answer, own.order))
    assert (same.tokens, same.model_calls, same.differences) == (own.tokens, own.model_calls, ())
    wrong = [*answer]
    wrong[3] = (wrong[3] + 1) % MASK
    other = follow(Forced(wrong, own.order))
    assert list(other.tokens[len(prompt) :]) == wrong
    first = other.differences[0]
    assert first.call == own.order[3] and not first.near_tie
