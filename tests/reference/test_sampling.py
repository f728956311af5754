"""Controls against transformers' processors, and the draw against its distribution."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dcompile.controls import Controls
from dcompile.reference.sampling import draw, processed, warped
from dcompile.reference.threefry import uniform

LOGITS = st.lists(st.integers(-40, 40), min_size=12, max_size=12, unique=True).map(lambda xs: torch.tensor(xs) / 5)


@given(LOGITS, st.floats(0.5, 2), st.frozensets(st.integers(0, 11), min_size=1))
def test_repetition_penalty(logits: torch.Tensor, penalty: float, seen: frozenset[int]) -> None:
    want = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([sorted(seen)]), logits[None].clone())[0]
    assert torch.allclose(processed(logits, Controls(repetition_penalty=penalty), seen, 0), want)


@given(LOGITS, st.floats(0.2, 3), st.integers(0, 14), st.floats(0.05, 1), st.floats(0, 0.5))
def test_warps_keep_what_transformers_keeps(
    logits: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    ranked = torch.sort(warped(logits, Controls(top_k=top_k), temperature).softmax(-1), descending=True).values
    assume((ranked.cumsum(-1) - top_p).abs().min() > 1e-5)  # else rounding decides
    assume((ranked / ranked[0] - min_p).abs().min() > 1e-5)
    chain = [TemperatureLogitsWarper(temperature), *([TopKLogitsWarper(top_k)] if top_k else [])]
    chain += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    chain += [MinPLogitsWarper(min_p)] if min_p else []
    want = LogitsProcessorList(chain)(torch.zeros(1, 1, dtype=torch.int64), logits[None].clone())[0].softmax(-1)
    got = warped(logits, Controls(temperature, top_k, top_p, min_p), temperature).softmax(-1)
    assert torch.allclose(got, want, atol=1e-6)


def test_ties_at_the_kth_value_stay() -> None:
    kept = warped(torch.tensor([1.0, 3.0, 2.0, 2.0, 0.0]), Controls(top_k=2), 1.0).softmax(-1)
    assert kept.nonzero().flatten().tolist() == [1, 2, 3]


def test_ties_in_top_p_go_to_the_lowest_id() -> None:
    kept = warped(torch.zeros(4), Controls(top_p=0.5), 1.0).softmax(-1)
    assert kept.nonzero().flatten().tolist() == [0, 1]


def test_bans_and_minimum_length() -> None:
    logits = torch.tensor([5.0, 4.0, 3.0, 2.0])
    controls = Controls(banned=(0,), min_length=2, eos_ids=(1,))
    assert int(processed(logits, controls, frozenset(), 1).argmax()) == 2
    assert int(processed(logits, controls, frozenset(), 2).argmax()) == 1


def test_a_draw_is_the_inverse_of_the_running_sum() -> None:
    logits = torch.tensor([0.1, 0.0, 0.6, 0.3]).clamp(min=1e-30).log()
    assert [draw(logits, u) for u in (0.05, 0.11, 0.69, 0.71, 0.9999999)] == [0, 2, 2, 3, 3]


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_draws_follow_the_distribution(temperature: float) -> None:
    logits = warped(torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5]), Controls(), temperature)
    count = Counter(draw(logits, uniform(3, 0, n, 0)) for n in range(4000))
    for token, probability in enumerate(logits.softmax(-1).tolist()):
        assert abs(count[token] / 4000 - probability) < 0.03
