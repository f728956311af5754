"""Stored distributions and tables: the lowering against the oracle, and laws that hold whatever the model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lower.test_random_programs import PROMPTS, agree
from tests.passes.rows import compiled, lowered, oracle, read

BODIES = {
    "a block's memory": """
        state before: dist = none per block
        state C: float[canvas, vocab] = 0 per block
        for b in blocks(answer, 4) {
          while any(masked in b) {
            p = lm(everything)
            calm = masked in b where kl(p, before) < 0.4
            C = 0.8 * C + (sqrt(p.max) * onehot(p.top) if masked in b else 0.0)
            q = p plus 2 * log(1 + C)
            commit q.token at calm or top(masked in b, 1, by: q.max)
            before = p
          }
        }""",
    "memory of the outermost block, read beyond it": """
        state before: dist = none per block
        for b in blocks(answer, 4) {
          p = lm(everything)
          before = p
          commit p.token at top(masked in b, 1, by: p.max)
          for c in blocks(b, 2) {
            q = lm(everything)
            commit q.token at top(masked, 1, by: kl(q, before))
            commit q.token at masked in c
            before = q
          }
          r = lm(b)
          commit r.token at masked in b where kl(r, before) < 1
          overwrite r.token at b where kl(r, before) > 0.01
        }""",
    "a whole canvas, known in part": """
        state before: dist = none
        state seen: int = 0
        for b in blocks(answer, 3) {
          p = lm(b)
          before = p
          q = lm(everything)
          seen = count(everything where kl(q, before) < 3e37)
          commit q.token at top(masked, seen, by: kl(q, before))
          before = none
          seen = count(everything where kl(q, before) < 3e37)
          commit q.token at masked where seen > 0
        }
        r = lm(everything)
        commit r.token at masked""",
    "a table of its own": """
        state T: float[canvas, vocab] = -1
        for t in 1 to 3 {
          p = lm(everything)
          T = -T / 2 + max(T, onehot(token)) * p.entropy if masked else position
          q = p plus T - min(T, 1)
          r = q plus exp(T / 50)
          commit r.token at top(masked, 2, by: r.margin)
          overwrite r.sample at take(answer, by: r.prob(q.top) asc, atmost: 1)
        }""",
    "evidence that is changed after it was added": """
        state T: float[canvas, vocab] = 0
        p = lm(everything)
        T = 9 * onehot(p.top)
        q = p plus -T
        T = 0 * T
        commit q.token at top(masked, 3, by: q.max)
        commit p.token at masked""",
}


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("word", [w for w in BODIES if "outermost" not in w and "in part" not in w])
def test_as_the_oracle(word: str, shift: bool) -> None:
    agree(read(BODIES[word]), shift)


@pytest.mark.parametrize("word", BODIES)
@pytest.mark.parametrize("controls", [{}, {"temperature": 0.9, "seed": 3}, {"repetition_penalty": 1.7}])
def test_with_draws_and_penalties(word: str, controls: dict[str, Any]) -> None:
    agree(read(BODIES[word]), length=7, **controls)


@pytest.mark.parametrize("word", list(BODIES)[:2])
def test_a_block_that_ends_with_the_canvas(word: str) -> None:
    """The frame of a last, shorter block begins before the block; what is there is none of its own."""
    strategy = read(BODIES[word])
    program = lowered(strategy, 2, capacity=max(map(len, PROMPTS)) + 7)
    assert compiled(program, PROMPTS, 7) == oracle(strategy, PROMPTS, 7)


def committed(body: str, **controls: Any) -> list[tuple[int, ...]]:
    return [row.answer for row in oracle(read(body), PROMPTS, 6, **controls)]


def test_a_distribution_does_not_differ_from_itself() -> None:
    body = """
        state P: dist = none
        p = lm(everything)
        P = p
        q = p plus 0 * onehot(p.top)
        commit p.token at masked where kl(p, P) == 0 and kl(p, q) < 0.001"""
    plain = "p = lm(everything)\ncommit p.token at masked"
    assert committed(body) == committed(plain)
    assert committed(body, temperature=1.2, seed=5) == committed(plain, temperature=1.2, seed=5)


def test_evidence_against_the_likeliest_token_takes_the_next() -> None:
    body = "p = lm(everything)\nq = p plus {} * onehot(p.top)\ncommit q.token at masked"
    likeliest, another = committed(body.format("50")), committed(body.format("0 - 50"))
    assert likeliest == committed("p = lm(everything)\ncommit p.token at masked")
    assert all(a != b for one, two in zip(likeliest, another, strict=True) for a, b in zip(one, two, strict=True))


def test_nothing_is_near_to_none() -> None:
    body = "state P: dist = none\np = lm(everything)\ncommit p.token at masked where kl(p, P) < 1e38 or kl(P, p) < 1e38"
    assert all(set(row.order) == {0} for row in oracle(read(body), PROMPTS, 6))
