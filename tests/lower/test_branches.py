"""Branches: the program is the oracle's, in a batch and alone; drafts change no token and take no more calls."""

from __future__ import annotations

from typing import Any

import pytest

from dcompile.passes.pipeline import optimise
from dcompile.strategy import Strategy
from tests.lower.test_random_programs import PROMPTS
from tests.passes.rows import compiled, lowered, oracle, read

LENGTH = 8
STORED = """
for b in blocks(answer, 4) {
  p = lm(everything)
  guess = p.token
  score = p.max
  while any(masked in b) {
    branch j in 1 to min(3, count(masked in b)) {
      commit guess at top(masked in b, j, by: score)
      q = lm(FEED) KEEP
      guess = q.token if READ else guess
      score = q.max if READ else score
    } accept guess at top(masked in b, 1, by: score)
  }
}"""


def stored(feed: str, keep: str = "", read: str = "b") -> str:
    """Blocks with drafts, fed and kept in some way."""
    return STORED.replace("FEED", feed).replace("KEEP", keep).replace("READ", read)


BODIES = {
    "the block alone": stored("b"),
    "nothing kept": stored("b", "keep none"),
    "what the accepted one has committed is kept": stored("b", "keep b and not masked"),
    "the block and what is around it": stored("b or after(b)"),
    "all of it": stored("everything", "", "everything"),
    "to the end": stored("from(b)"),
    "regions of the branch's own": stored("masked or (b where position mod 2 == 0)", "", "masked in b"),
    "some rows draft nothing": """
        state n: int = 0
        p = lm(everything)
        guess = p.token
        best = first(answer)
        while any(masked) {
          n = n + 1
          branch k in 2 to min(4, count(prompt) - n) {
            if k mod 2 == 0 { commit guess at top(masked, k, by: position) } else { commit token(7) at first(masked) }
            before = count(masked)
            q = lm(masked where position mod 3 != n mod 3)
            guess = q.token if (masked where position mod 3 != n mod 3) else guess
            n = n + before mod 2
          } accept within guess at masked
          commit guess at first(masked)
        }""",
    "tokens are overwritten and masked again": """
        p = lm(everything)
        guess = p.token
        commit guess at answer where position mod 2 == 0
        for t in 1 to 3 {
          branch j in 0 to 2 {
            overwrite token(20) at answer where position mod 3 == j or position < t
            mask answer where position mod 4 == j
            q = lm(everything)
            guess = q.token
            commit q.token at top(masked, 2, by: q.gap)
          } accept guess at top(masked, j + 1, by: position)
        }
        r = lm(everything)
        commit r.token at masked""",
    "nothing to feed": """
        p = lm(everything)
        guess = p.token
        for t in 1 to 3 {
          branch j in 1 to 2 {
            commit guess at first(masked where position mod 2 == 0)
            q = lm(masked where position mod 2 == 0)
          } accept guess at first(masked where position mod 2 == 0)
        }
        r = lm(everything)
        commit r.token at masked""",
}


def agree(strategy: Strategy, shift: bool = False, **controls: Any) -> None:
    want = oracle(strategy, PROMPTS, LENGTH, shift, **controls)
    assert compiled(lowered(strategy, 2, shift=shift), PROMPTS, LENGTH, **controls) == want
    alone = compiled(optimise(lowered(strategy, shift=shift)), PROMPTS[:1], LENGTH, **controls)
    assert alone == want[:1]


QUICK = ("the block alone", "what the accepted one has committed is kept", "some rows draft nothing", "nothing to feed")


@pytest.mark.parametrize("word", [pytest.param(w, marks=[] if w in QUICK else pytest.mark.slow) for w in BODIES])
def test_as_the_oracle(word: str) -> None:
    agree(read(BODIES[word]))


@pytest.mark.parametrize("word", ["the block alone", pytest.param("some rows draft nothing", marks=pytest.mark.slow)])
def test_draws_as_the_oracle(word: str) -> None:
    agree(read(BODIES[word]), temperature=1.0, seed=3)


def test_a_penalty_as_the_oracle() -> None:
    agree(read(BODIES["the block alone"]), repetition_penalty=1.7, min_length=3)
