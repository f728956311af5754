"""Models that take turns: each catches up with what it has not seen, and says what it says of the whole text."""

from __future__ import annotations

import pytest
import torch

from dcompile.controls import Controls
from dcompile.dsl import checker
from dcompile.reference import run
from dcompile.reference.forward import blank, forward, logits_of, states
from dcompile.reference.networks import answer
from dcompile.strategy import ModelUse, Strategy, lags
from tests.backends.parts import heads
from tests.lower.test_drafts import LENGTH, PROMPTS, both, drafter
from tests.passes.rows import model, oracle, read


def strategy(body: str, members: str = "") -> Strategy:
    return read(f"""strategy s {{
  model lm: causal
  model small: causal
  {members}
  canvas answer = empty(length)
  repeat {{
    {body}
  }} until eos
}}""")


ROUTES = {
    "by entropy": """
      p = small(last)
      if max(p.entropy in last) > 2.6 { q = lm(last); append q.token } else { append p.token }""",
    "by the place": """
      if count(answer) mod 4 == 3 { q = lm(last); append q.token } else { p = small(last); append p.token }""",
    "now and then none": """
      p = small(last)
      if count(answer) mod 3 == 2 {
        q = lm(last)
        append q.token
      } else if count(answer) mod 3 == 1 {
        append p.token
      } else {
        append token(7)
      }""",
}
LOSSLESS = {
    "a draft of the one that waited": """
      if count(answer) mod 3 == 0 {
        q = lm(last)
        append q.token
      } else {
        draft t = chain(2) from last by small
        p = lm(t)
        accept t where token == parent.p.token
      }""",
    "a draft behind single tokens": """
      if count(answer) < 5 {
        q = lm(last)
        append q.token
      } else {
        draft t = beam(2, 2, 3) from last by small
        p = lm(t)
        accept t where token == parent.p.token
      }""",
}


@pytest.mark.parametrize("heat", [0.0, pytest.param(0.9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*ROUTES, *(pytest.param(n, marks=pytest.mark.slow) for n in LOSSLESS)])
def test_the_program_catches_up_as_the_oracle_does(name: str, heat: float) -> None:
    routed = strategy({**ROUTES, **LOSSLESS}[name])
    want, got = both(routed, {"lm": model(), "small": drafter()}, temperature=heat, seed=3)
    assert got == want
    if name in LOSSLESS and heat == 0:  # each call draws for itself
        plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
        assert [row.answer for row in want] == [row.answer for row in plain]


def test_each_token_is_what_its_model_says_of_the_whole_text() -> None:
    found = run(strategy(ROUTES["by the place"]), {"lm": model(), "small": drafter()}, PROMPTS[0], length=LENGTH,
                sampling=Controls())  # fmt: skip
    text = list(PROMPTS[0])
    for n, token in enumerate(found.output_ids):
        of, use = (model(), "lm") if n % 4 == 3 else (drafter(), "small")
        alone = forward(of, ModelUse(use, "causal", None), blank(of, len(text)), text, range(len(text)), ())
        assert token == int(torch.argmax(alone[-1]))
        text.append(token)
    assert found.positions_fed == _fed(len(PROMPTS[0]), LENGTH)


def _fed(prompt: int, length: int) -> int:
    """Each model is fed once what stands before the last token that it writes."""
    ends = {n % 4 == 3: prompt + n for n in range(length)}
    return sum(ends.values())


def test_who_lags() -> None:
    one, two = (strategy(ROUTES[n]) for n in ("by entropy", "by the place"))
    assert lags(one, "lm") and not lags(one, "small")
    assert lags(two, "lm") and lags(two, "small")
    assert not lags(read("greedy"), "lm") and not lags(read("speculative"), "small")
    assert not lags(strategy(LOSSLESS["a draft of the one that waited"]), "lm")
    assert lags(strategy(LOSSLESS["a draft of the one that waited"]), "small")


def test_verdicts() -> None:
    routed = checker.report(strategy(ROUTES["by entropy"]))
    assert routed.cache.verdict == "exact"
    assert (routed.lossless.verdict, "another model" in routed.lossless.why) == ("lossy", True)
    assert checker.report(strategy(LOSSLESS["a draft of the one that waited"])).lossless.verdict == "proved"


def test_a_router_that_reads_the_hidden_state() -> None:
    """It sends some tokens to each model, and reads the very vector that the small one's head reads."""
    path = heads(1, 1, 0, hidden=model().facts.hidden)
    routed = read("r2r_router", route=path)
    models = {"small": drafter(), "lm": model()}
    want, got = both(routed, models)
    assert got == want
    module, text, chosen = routed.modules[0], list(PROMPTS[0]), set()
    for token in want[0].answer:
        one, two = (
            states(m, ModelUse("lm", "causal", None), blank(m, len(text)), text, range(len(text)), ())[-1]
            for m in (drafter(), model())
        )
        large = bool(answer(module, one, 0)[0] > 0.5)
        chosen.add(large)
        assert token == int(torch.argmax(logits_of(*((model(), two[None]) if large else (drafter(), one[None])))))
        text.append(token)
    assert chosen == {False, True}
