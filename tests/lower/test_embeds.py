"""Mixed embeddings: the lowering against the oracle, and laws that hold whatever the model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lower.test_random_programs import PROMPTS, agree
from tests.passes.rows import oracle, read

BODIES = {
    "a share of the last prediction": """
        state before: dist = none
        share = 0.0
        while any(masked) {
          p = lm(everything, embeds: onehot(token) + (share * probs(before) if masked else 0.0))
          commit p.token at top(masked, 1, by: p.max)
          before = p
          share = min(0.1 + share, 0.5)
        }""",
    "between a token and the mask, rescaled": """
        state c: float[canvas] = 1.0
        refresh lm(everything)
        for b in blocks(answer, 3) {
          while any(masked in b) {
            p = lm(b, embeds: soft(), rescale: true)
            overwrite p.top at b and not masked
            commit p.top at first(masked in b)
            c = p.max if b else c
          }
        }
        rule soft() {
          return c * onehot(token) + (1 - c) * onehot(mask_token) if answer else onehot(token)
        }""",
    "a table, and arithmetic": """
        state T: float[canvas, vocab] = 0.01 per block
        refresh lm(everything)
        for b in blocks(answer, 4) {
          for t in 1 to 3 {
            p = lm(b, embeds: -(T / 2 - onehot(token)) * 0.9 + max(T, onehot(p_top()))) keep none
            T = T + p.max * onehot(p.top) if b else T
            commit p.token at top(masked in b, 2, by: p.entropy)
          }
          refresh lm(b)
        }
        rule p_top() {
          return token(7)
        }""",
}
MODELS = {"masked": "masked", "block_causal": "block_causal(3)"}


def program(body: str, kind: str = "masked") -> str:
    return f"strategy s {{\nmodel lm: {MODELS[kind]}\ncanvas answer = masked(length)\n{body}\n}}\n"


@pytest.mark.parametrize("word", BODIES)
@pytest.mark.parametrize("kind", MODELS)
def test_as_the_oracle(word: str, kind: str) -> None:
    agree(read(program(BODIES[word], kind)), length=7)


def test_as_the_oracle_on_a_shifted_model() -> None:
    agree(read(BODIES["a share of the last prediction"]), shift=True)


def committed(body: str, **controls: Any) -> list[tuple[int, ...]]:
    return [row.answer for row in oracle(read(body), PROMPTS, 6, **controls)]


PLAIN = "while any(masked) {{\np = lm(everything{})\ncommit p.token at top(masked, 1, by: p.max)\n}}"


@pytest.mark.parametrize(
    "same", ["onehot(token)", "0.5 * onehot(token) + 0.5 * onehot(token)", "onehot(token), rescale: true",
             "onehot(token) * 0.3 + 0.7 * (onehot(token) if masked else onehot(token)), rescale: true"]
)  # fmt: skip
def test_a_token_alone_is_the_plain_call(same: str) -> None:
    assert committed(PLAIN.format(", embeds: " + same)) == committed(PLAIN.format(""))


def test_another_embedding_is_another_call() -> None:
    other = committed(PLAIN.format(", embeds: onehot(token) if answer else onehot(token(3))"))
    short = committed(PLAIN.format(", embeds: 0.2 * (onehot(token) + onehot(token(3)))"))
    long = committed(PLAIN.format(", embeds: 0.2 * (onehot(token) + onehot(token(3))), rescale: true"))
    assert len({tuple(c) for c in (committed(PLAIN.format("")), other, short, long)}) == 4
