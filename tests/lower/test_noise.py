"""Uniform canvases and `noise`: the lowering against the oracle, and what random tokens must be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dcompile.strategy import NOISE
from tests.lower.test_random_programs import PROMPTS, agree
from tests.passes.rows import VOCAB, lowered, oracle, read

UNIFORM = "strategy s {\nmodel lm: masked\ncanvas answer = uniform(length)\n"
BODIES = {
    "entropy bounded": """
        state best: token[canvas] = 0
        for t in 1 to 5 {
          p = lm(everything)
          sure = take(masked, by: p.entropy, while: sum(p.entropy) - p.entropy <= 1.5)
          overwrite p.token at sure
          noise masked and not sure
          break when all(p.top == best in masked)
          best = p.top
        }
        commit best at masked""",
    "two noises of a block, with commits between": """
        refresh lm(prompt)
        for b in blocks(answer, 4) {
          while any(masked in b) {
            p = lm(b)
            noise b where p.max < 0.5
            commit p.token at top(masked in b, 1, by: p.max)
            noise masked in b
          }
          stop on eos
        }""",
    "noise reaches the answer alone": """
        p = lm(everything)
        noise everything where p.max < 0.6
        commit p.token at first(masked)
        noise answer where position mod 2 == 0
        commit token(7) at masked where token != token(3)""",
}


@pytest.mark.parametrize("word", BODIES)
@pytest.mark.parametrize("controls", [{}, {"seed": 9}, {"temperature": 0.8, "seed": 2, "repetition_penalty": 1.3}])
def test_as_the_oracle(word: str, controls: dict[str, Any]) -> None:
    agree(read(UNIFORM + BODIES[word] + "\n}\n"), length=7, **controls)


def test_noise_on_a_masked_canvas() -> None:
    agree(read(BODIES["two noises of a block, with commits between"]), length=7)


def test_a_program_without_draws_keeps_its_seed() -> None:
    from dcompile.lower import lower
    from tests.passes.rows import fits

    strategy = read(UNIFORM + BODIES["entropy bounded"] + "\n}\n")
    program = lower(strategy, fits(strategy), capacity=24, rng=False)
    assert {"seed"} < {p.name for p in program.graphs[0].inputs}
    assert "temperature" not in {p.name for p in program.graphs[0].inputs}
    assert max(VOCAB, lowered(strategy).capacity) < NOISE


def answers(body: str, seed: int = 0, length: int = 6) -> list[tuple[int, ...]]:
    return [row.answer for row in oracle(read(body), PROMPTS, length, seed=seed)]


def test_each_draw_is_its_own() -> None:
    first, again = UNIFORM + "noise prompt\n}", UNIFORM + "noise answer\n}"
    more = UNIFORM + "for t in 1 to 2 { noise answer }\n}"
    other = UNIFORM + "noise prompt\nnoise answer\n}"
    seen = [answers(body, seed) for body in (first, again, more, other) for seed in (1, 2)]
    assert len({row for rows in seen for row in rows}) == 2 * len(seen)
    assert answers(again, 5) == answers(again, 5)


def test_every_token_is_as_likely() -> None:
    """1000 tokens of 40: each is expected 25 times, with a deviation of 5."""
    found = Counter(t for seed in range(20) for t in answers(UNIFORM + "noise prompt\n}", 10 * seed, 50)[0])
    assert set(found) <= set(range(VOCAB)) and sum(found.values()) == 1000
    assert all(5 <= found[token] <= 60 for token in range(VOCAB)), found
