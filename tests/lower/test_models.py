"""Strategies with several models: the lowering against the oracle, each model with a cache of its own."""

from __future__ import annotations

from typing import Any

import pytest

from dcompile.controls import Controls
from dcompile.lower import lower
from dcompile.passes.pipeline import optimise
from dcompile.reference import run
from tests.passes.rows import EOS, compiled, model, read

HEAD = "strategy s {\nmodel lm: masked\nmodel guide: causal\ncanvas answer = masked(length)\n"
BODIES = {
    "drafts that a causal model reads": """
        refresh guide(prompt)
        while any(masked) {
          p = lm(everything)
          draft = p.token
          next = take(masked, atmost: 4)
          g = guide(before(next) or next, tokens: draft if next else token)
          commit draft at take(next, while: g.prob(draft) > 0.02, atleast: 1)
          stop on eos
        }""",
    "both with a cache, the guide's token kept": """
        refresh guide(everything)
        refresh lm(everything)
        for b in blocks(answer, 3) {
          while any(masked in b) {
            p = lm(b)
            g = guide(before(b) or b) keep none
            one = top(masked in b, 1, by: p.max - g.max)
            commit p.token at one where p.max > g.max
            commit g.token at one
          }
          refresh guide(before(b) or b)
        }""",
}
PROMPTS = [(5, 6, 7), (8, 9, 10, 11, 12)]


@pytest.mark.parametrize("word", BODIES)
@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.parametrize("controls", [{}, {"temperature": 0.8, "seed": 2}])
def test_as_the_oracle(word: str, passes: bool, controls: dict[str, Any]) -> None:
    strategy = read(HEAD + BODIES[word] + "\n}\n")
    models = {"lm": model("full"), "guide": model("causal")}
    program = lower(strategy, models, batch=2, capacity=24)
    seeds = [row + controls.get("seed", 0) for row in range(len(PROMPTS))]
    chosen = [Controls(eos_ids=(EOS,), **{**controls, "seed": seed}) for seed in seeds]
    want = [run(strategy, models, p, length=7, sampling=c) for p, c in zip(PROMPTS, chosen, strict=True)]
    found = compiled(optimise(program) if passes else program, PROMPTS, 7, **controls)
    assert [(r.answer, r.calls, r.fed) for r in found] == [
        (w.tokens[len(p) :], w.model_calls, w.positions_fed) for p, w in zip(PROMPTS, want, strict=True)
    ]
