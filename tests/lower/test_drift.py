"""Calls that compute a share of their rows in each layer: the lowering against the oracle, and how far they drift."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2Model

from dcompile.diagnostic import CompileError
from dcompile.dsl.checker import report
from dcompile.lower import lower
from dcompile.reference import drift
from dcompile.reference.forward import blank
from tests.lower.test_random_programs import PROMPTS, agree
from tests.passes.rows import MASK, compiled, lowered, model, oracle, read

BODIES = {
    "refreshes now and then": """
        turn = 0
        while any(masked) {
          if turn mod 4 == 0 {
            p = lm(everything) with share 1
            commit p.token at top(masked, 1, by: p.max)
          } else {
            q = lm(answer) with share 0.4
            commit q.token at top(masked, 1, by: q.max)
          }
          turn = turn + 1
        }""",
    "blocks, and plain calls between": """
        for b in blocks(answer, 4) {
          refresh lm(everything) with share 1
          while any(masked in b) {
            p = lm(from(b)) with share 0.3
            commit p.token at top(masked in b, 1, by: p.max)
            refresh lm(b)
          }
        }""",
    "everything from nothing": """
        for t in 1 to 4 {
          p = lm(everything) with share 0.5
          commit p.token at top(masked, 2, by: p.max)
        }
        q = lm(answer) with share 1
        commit q.token at masked""",
}


@pytest.mark.parametrize("word", BODIES)
@pytest.mark.parametrize("length", [6, 9])
def test_as_the_oracle(word: str, length: int) -> None:
    agree(read(BODIES[word]), length=length)


def test_as_the_oracle_where_the_canvas_is_full_and_on_a_shifted_model() -> None:
    strategy = read(BODIES["blocks, and plain calls between"])
    program = lowered(strategy, 2, capacity=max(map(len, PROMPTS)) + 7)
    assert compiled(program, PROMPTS, 7) == oracle(strategy, PROMPTS, 7)
    agree(read(BODIES["refreshes now and then"]), shift=True)


PLAIN = "while any(masked) {{\np = lm({}){}\ncommit p.token at top(masked, 1, by: p.max)\n}}"


def test_all_rows_are_no_cache() -> None:
    every, cached = PLAIN.format("everything", ""), PLAIN.format("everything", " with share 1")
    assert oracle(read(cached), PROMPTS, 6) == oracle(read(every), PROMPTS, 6)
    behind = "refresh lm(everything)\n"
    answer, fed = PLAIN.format("answer", ""), PLAIN.format("answer", " with share 1")
    assert oracle(read(behind + fed), PROMPTS, 6) == oracle(read(behind + answer), PROMPTS, 6)


def error(share: float, changes: int) -> float:
    """How far the logits are from exact ones, against none computed anew: after each of `changes` tokens the canvas is
    fed with the share."""
    lm = model("full")
    tokens = [5, 6, 7, 8, *[MASK] * 12]
    memory, fed = blank(lm, len(tokens)), list(range(len(tokens)))
    found = start = drift.forward(lm, memory, tokens, fed, 1.0)
    for n in range(changes):
        tokens[4 + 3 * n] = 9 + n
        found = drift.forward(lm, memory, tokens, fed, share)
    exact = drift.forward(lm, blank(lm, len(tokens)), tokens, fed, 1.0)
    return float((found - exact).norm() / (start - exact).norm())


@pytest.mark.parametrize("changes", [1, 3])
def test_drift_is_bounded(changes: int) -> None:
    """Any share is nearer to the exact logits than those of before, a larger one not further, and all is exact."""
    errors = [error(share, changes) for share in (0.07, 0.25, 0.5, 0.75, 1.0)]
    assert errors[-1] < 1e-5
    assert errors[0] < 0.9 and errors[3] < 0.6 and errors == sorted(errors, reverse=True), errors


def test_other_layers_are_refused() -> None:
    """GPT-2's layers are not made of the same parts."""
    lm = model("full")
    backbone = GPT2Model(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2)).eval()
    with torch.no_grad(), pytest.raises(CompileError, match=r"no-layer-features(.|\n)*Llama, Mistral, Qwen2, Qwen3"):
        lower(read(BODIES["everything from nothing"]), replace(lm, backbone=backbone), capacity=24)


def test_the_features_are_counted() -> None:
    """Two a layer, each with the hidden size, in float32."""
    lm = model("full")
    found = dict(report(read(BODIES["everything from nothing"]), lm.facts, capacity=24, batch=3).memory)
    assert found["features of the layers"] == 2 * 2 * 16 * 24 * 3 * 4
    assert "features of the layers" not in dict(report(read("p = lm(everything)"), lm.facts, capacity=24).memory)
