"""Words of the language whose lowering is easy to get wrong, each against the oracle, on rows of unequal prompts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lower.test_random_programs import LENGTH, PROMPTS, agree
from tests.passes.rows import MASK, oracle, read

BODIES = {
    "conditions hold on live positions only": """
        for t in 1 to 3 {
          p = lm(everything)
          n = max(count(position mod 2 == 0) - 3, 1)
          commit p.token at top(masked, n, by: p.max)
        }""",
    "whole blocks far from the start": """
        for t in 1 to 2 {
          p = lm(everything)
          commit p.token at masked and whole(answer, 3) or first(masked)
        }""",
    "blocks of the prompt are blocks too": """
        p = lm(everything)
        chosen = take(everything, by: p.max desc, atmost: 1, per: blocks(2))
        overwrite p.token at chosen and prompt
        commit p.token at masked""",
    "runs": """
        p = lm(everything)
        commit p.token at masked where position mod 3 != 1
        p = lm(everything)
        overwrite p.token at take(answer where position mod 3 != 1, by: p.entropy asc, atmost: 1, per: runs)
        commit p.token at masked""",
    "a running maximum in runs": """
        p = lm(everything)
        commit p.token at take(masked where position mod 4 != 1, by: p.max desc, while: max(p.max) < 2, per: runs)
        commit p.token at masked""",
    "a score that reads a variable reads it anew": """
        state chosen: token[canvas] = 4
        for t in 1 to 3 {
          p = lm(everything)
          a = sum(p.prob(chosen) in answer)
          chosen = p.token
          n = 2 if sum(p.prob(chosen) in answer) > a else 1
          commit p.token at top(masked, n, by: p.prob(chosen))
        }""",
    "rows that stop in a loop skip what follows it": """
        for b in blocks(answer, 2) {
          p = lm(b)
          commit p.token at masked in b
          stop when count(prompt) > 3
        }
        p = lm(everything)
        overwrite p.token at answer""",
    "a branch for each row": """
        for t in 1 to 3 {
          p = lm(everything)
          if count(prompt) > 3 { commit p.token at top(masked, 1, by: p.max) }
          else { commit p.token at top(masked, 3, by: p.max) }
        }""",
    "near": """
        p = lm(everything)
        commit p.token at after(prompt) or dilate(first(from(answer)), 2)
        p = lm(everything)
        overwrite p.token at before(masked)
        mask first(answer)
        p = lm(everything)
        commit p.token at masked""",
    "a sub-block that is shorter": """
        for b in blocks(answer, 4) {
          for c in blocks(b, 3) {
            p = lm(b)
            commit p.token at masked in c
          }
        }""",
}


@pytest.mark.parametrize("word", BODIES)
def test_masked(word: str) -> None:
    agree(read(BODIES[word]))


UNREADABLE = """
    for b in blocks(answer, 3) {
      p = lm(everything)
      commit p.token at unreadable(b)
      while any(masked in b and not unreadable(b)) {
        p = lm(b)
        commit p.token at top(masked in b and not unreadable(b), 1, by: p.max)
      }
    }"""


@pytest.mark.parametrize("controls", [{}, {"temperature": 1.0, "seed": 11}, {"repetition_penalty": 1.8}])
def test_a_shifted_model(controls: dict[str, Any]) -> None:
    """What is fed predicts the position behind it, and draws are counted there."""
    agree(read(UNREADABLE), shift=True, **controls)


AROUND = """
    for b in blocks(answer, 3) {
      p = lm(everything)
      commit p.token at first(masked in b)
      while any(masked in b) {
        p = lm(before(b) or b)
        commit p.token at top(masked in b, 1, by: p.max)
      }
      refresh lm(dilate(b, 2) or after(b))
    }"""


@pytest.mark.parametrize("shift", [False, True])
def test_a_block_and_what_stands_next_to_it(shift: bool) -> None:
    agree(read(AROUND), shift=shift)


def test_a_penalty_looks_at_the_canvas_of_the_call() -> None:
    body = """
        for t in 1 to 3 {
          p = lm(everything)
          commit p.token at top(masked, 1, by: p.max)
          commit p.token at top(masked, 1, by: p.margin)
        }"""
    agree(read(body), repetition_penalty=2.5)
    agree(read(body), temperature=1.5, repetition_penalty=2.5, seed=4)


TEMPLATE = (5, None, MASK, 6, None, 7)  # the mask's id is a hole as well
CHANGES = """
    for t in 1 to 3 {
      p = lm(everything)
      commit p.token at top(masked, 2, by: p.max)
      mask answer where p.prob(token) < 0.2
      overwrite p.token at answer where p.max > 0.5
    }"""


@pytest.mark.parametrize("body", [CHANGES, BODIES["runs"], BODIES["whole blocks far from the start"], UNREADABLE])
def test_a_template_stays(body: str) -> None:
    agree(read(body), template=TEMPLATE)
    for row in oracle(read(body), PROMPTS, LENGTH, template=TEMPLATE):
        assert [(row.answer[n], row.order[n]) for n in (0, 3, 5)] == [(5, 0), (6, 0), (7, 0)]
