"""Models that predict in any order: a graph's attention is the library's, and ASSD is the oracle's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import XLNetConfig, XLNetLMHeadModel

from dcompile.controls import Controls
from dcompile.lower import lower
from dcompile.model import Facts
from dcompile.models import Model
from dcompile.models.permuted import split_permuted
from dcompile.passes.pipeline import optimise
from dcompile.reference import run
from dcompile.strategy import Strategy
from tests.passes.rows import Row, compiled, read

VOCAB, MASK, EOS = 40, 39, 1
PROMPTS = [(12, 13, 14), (8, 9, 8, 9, 8)]
LENGTH = 7


@cache
def xlnet() -> Model:
    """Two layers of random weights, large enough that logits lie apart."""
    torch.manual_seed(2)
    config = XLNetConfig(vocab_size=VOCAB, d_model=12, n_layer=2, n_head=3, d_inner=16, dropout=0.0)
    whole = XLNetLMHeadModel(config).eval().requires_grad_(False)
    for weight in whole.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.4)
    facts = Facts("xlnet", "permutation", False, VOCAB, 12, 2, 3, 3, 4, 512, MASK, (EOS,))
    backbone, head = split_permuted(whole, facts)
    return Model(facts, backbone, head, Path())


def oracle(strategy: Strategy, prompt: tuple[int, ...], seed: int, temperature: float) -> Row:
    found = run(strategy, xlnet(), prompt, length=LENGTH, sampling=Controls(temperature=temperature, seed=seed))
    answer = found.output_ids
    return Row(answer, found.order[: len(answer)], found.model_calls, found.positions_fed)


def test_who_sees_whom_is_the_library_s() -> None:
    backbone, random = xlnet().backbone, torch.Generator().manual_seed(1)
    for _ in range(4):
        ids = torch.randint(0, VOCAB, (2, 9), generator=random)
        rank = torch.stack([torch.randperm(9, generator=random) for _ in range(2)])
        sees = (rank.unsqueeze(1) < rank.unsqueeze(2)) & (torch.rand(2, 1, 9, generator=random) < 0.8)
        want, got = backbone(ids, sees).last_hidden_state, backbone.traced(ids, sees)  # type: ignore[operator]
        some = sees.any(2)
        assert (want - got)[some].abs().max() < 1e-4


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_a_batch_and_the_oracle_agree(heat: float) -> None:
    strategy = read("assd", width=3)
    made = lower(strategy, xlnet(), batch=2, capacity=16)
    want = [oracle(strategy, prompt, 5 + r, heat) for r, prompt in enumerate(PROMPTS)]
    assert compiled(made, PROMPTS, LENGTH, seed=5, temperature=heat) == want
    made = optimise(lower(strategy, xlnet(), batch=1, capacity=16))
    assert compiled(made, PROMPTS[:1], LENGTH, seed=5, temperature=heat) == want[:1]


@pytest.mark.parametrize("seed", range(4))
def test_at_temperature_0_the_width_changes_no_token(seed: int) -> None:
    one = oracle(read("assd", width=1), PROMPTS[0], seed, 0.0)
    for width in (2, 3, 7):
        found = oracle(read("assd", width=width), PROMPTS[0], seed, 0.0)
        assert found.answer == one.answer and found.calls <= one.calls
