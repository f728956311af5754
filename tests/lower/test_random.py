"""`u = random()`: the lowering against the oracle, and what the numbers must be."""

from __future__ import annotations

from typing import Any

import pytest

from dcompile.reference.threefry import uniform
from dcompile.strategy import RANDOM
from tests.lower.test_random_programs import agree
from tests.passes.rows import oracle, read

HEAD = "strategy s {\nmodel lm: masked\ncanvas answer = masked(length)\n"
BODIES = {
    "a share of the masks in each turn": """
        for t in 1 to 4 {
          p = lm(everything)
          u = random()
          commit p.token at masked where t == 4 or u < 0.4
        }""",
    "two draws, one under a condition, one in an action": """
        state w: float[canvas] = 0.5
        for b in blocks(answer, 4) {
          while any(masked in b) {
            p = lm(everything)
            if count(masked in b) > 2 {
              w = random()
            }
            some(p, b)
          }
        }
        action some(p, b) {
          u = random()
          commit p.token at top(masked in b, 1, by: u - w)
        }""",
}


@pytest.mark.parametrize("word", BODIES)
@pytest.mark.parametrize("controls", [{}, {"seed": 9}, {"temperature": 0.8, "seed": 2}])
def test_as_the_oracle(word: str, controls: dict[str, Any]) -> None:
    agree(read(HEAD + BODIES[word] + "\n}\n"), length=7, **controls)


def test_what_is_drawn() -> None:
    """Stream, position and visit of a number, seen by what it lets through; the second turn draws anew."""
    strategy = read(HEAD + "for t in 1 to 2 {\nu = random()\ncommit token(3) at masked where u < 0.3\n}\n}")
    (row,) = oracle(strategy, [(5, 6, 7)], 9, seed=4)
    for answer, position in zip(row.answer, range(3, 12), strict=True):
        low = any(uniform(4, RANDOM, position, visit) < 0.3 for visit in (0, 1))
        assert (answer == 3) == low
