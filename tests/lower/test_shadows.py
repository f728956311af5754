"""Shadows: the lowering against the oracle, and what a shadow must not know."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lower.test_random_programs import agree
from tests.passes.rows import oracle, read

HEAD = "strategy s {\nmodel lm: masked\ncanvas answer = masked(length)\n"
BODIES = {
    "the whole canvas": """
        for b in blocks(answer, 4) {
          for t in 1 to 8 {
            break when not any(masked in b)
            p = lm(everything) with shadow b
            doubt = p.shadow.prob(token) if b else 1.0
            old = b and not masked
            commit p.token at top(masked in b, 2, by: p.max)
            mask top(old, 1, by: -doubt) where doubt < 0.2
          }
        }""",
    "a block over a cache, shadows of what is not fed": """
        refresh lm(everything)
        for b in blocks(answer, 3) {
          while any(masked in b) {
            p = lm(b) with shadow answer and not b
            commit p.shadow.top at last_of(answer and not masked and not b)
            overwrite p.shadow.top at answer and not b and not masked where p.shadow.margin > 0.05
            commit p.token at top(masked in b, 1, by: p.entropy)
          }
        }
        rule last_of(R) {
          return top(R, 1, by: position)
        }""",
}


@pytest.mark.parametrize("word", BODIES)
@pytest.mark.parametrize("controls", [{}, {"temperature": 0.8, "seed": 2, "repetition_penalty": 1.3}])
def test_as_the_oracle(word: str, controls: dict[str, Any]) -> None:
    agree(read(HEAD + BODIES[word] + "\n}\n"), length=7, **controls)


def test_a_shadow_does_not_know_its_token() -> None:
    """What it predicts stays when the token there is another; what is behind it changes with the token."""
    body = """state x: token[canvas] = 0
        commit token(TOKEN) at first(answer)
        p = lm(everything) with shadow answer
        x = p.shadow.top if answer else x
        commit x at answer
        overwrite x at answer"""
    texts = [HEAD + body.replace("TOKEN", str(token)) + "\n}\n" for token in (9, 11, 30, 31, 32)]
    rows = [oracle(read(text), [(5, 6, 7)], 4)[0].answer for text in texts]
    assert len({row[0] for row in rows}) == 1
    assert len(set(rows)) > 1
