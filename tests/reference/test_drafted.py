"""The library's drafting strategies give the tokens of plain decoding, and fewer calls where a draft can come true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor, nn
from torch.nn import functional

from dcompile.controls import Controls
from dcompile.model import Facts
from dcompile.models import Model
from dcompile.reference import Result, run
from tests.passes.rows import EOS, VOCAB, model, read

PROMPT, LENGTH = (5, 6, 7, 8, 5, 6, 7, 9, 5, 6), 12
SMALL = {"shape": str(Path(__file__).parents[1] / "backends" / "small.tree")}
SETTINGS: dict[str, dict[str, Any]] = {
    "prompt_lookup": {"width": 4},
    "recent_lookup": {"width": 4},
    "token_recycling": SMALL,
    "jacobi": {"width": 3},
    "input_copy": {"width": 5},
    "lookahead": {"window": 4, "ngram": 3, "guesses": 2},
    "speculative": {"width": 3},
}
RULED = {
    "block_verification": {},
    **dict.fromkeys(("greedy_drafts", "sequoia", "specinfer", "spectr", "traversal"), SMALL),
}


class Turning(nn.Module):
    """Says 5 to 9 in turn: by the token before, or by the position alone, so that a wrong guess does no harm."""

    def __init__(self, by_position: bool) -> None:
        super().__init__()
        self.by_position = by_position

    def forward(self, input_ids: Tensor, position_ids: Tensor, **rest: Any) -> SimpleNamespace:
        behind = 5 + (position_ids + 1 if self.by_position else input_ids + 1) % 5
        return SimpleNamespace(last_hidden_state=5.0 * functional.one_hot(behind, VOCAB))


def turning(by_position: bool) -> Model:
    facts = Facts("turning", "causal", False, VOCAB, VOCAB, 0, 1, 1, 1, 64, None, (EOS,))
    return Model(facts, Turning(by_position), nn.Identity(), Path())


def small() -> Model:
    """A drafter of other weights."""
    return model(seed=8)


def made(name: str, **controls: Any) -> Result:
    strategy = read(name, **{**SETTINGS, **RULED}.get(name, {}))
    models = {m.name: small() if m.name == "small" else model() for m in strategy.models}
    return run(strategy, models, PROMPT, length=LENGTH, sampling=replace(Controls(eos_ids=(EOS,)), **controls))


@pytest.mark.parametrize("name", [*SETTINGS, *RULED])
def test_the_tokens_of_greedy_decoding(name: str) -> None:
    assert made(name).output_ids == made("greedy").output_ids


@pytest.mark.parametrize("name", [n for n in SETTINGS if n != "speculative"])  # its rule keeps the law, not the draws
@pytest.mark.parametrize(
    "controls", [{"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2}]
)
def test_the_tokens_of_sampling_with_a_seed(name: str, controls: dict[str, float]) -> None:
    for seed in (0, 7):
        assert made(name, seed=seed, **controls).output_ids == made("sampled", seed=seed, **controls).output_ids


@pytest.mark.parametrize("name", SETTINGS)
def test_a_draft_that_comes_true_saves_calls(name: str) -> None:
    strategy = read(name, **SETTINGS[name])
    said = turning(by_position=name == "jacobi")
    found = run(strategy, {m.name: said for m in strategy.models}, PROMPT, length=LENGTH)
    plain = run(read("greedy"), said, PROMPT, length=LENGTH)
    assert found.output_ids == plain.output_ids
    own = found.model_calls if name != "speculative" else found.model_calls // 5 + 1
    assert own < plain.model_calls == LENGTH
