"""`truncate`: what is behind the cut is fed, attended, masked and counted no more, as with the oracle."""

from __future__ import annotations

import pytest

import dcompile
from dcompile.diagnostic import CompileError
from dcompile.verify import verify
from tests.lower.test_modules import TINY
from tests.lower.test_random_programs import PROMPTS
from tests.passes.rows import Row, compiled, lowered, oracle, read

LENGTH = 8
BODIES = {
    "a cut in a later block": """
        for b in blocks(answer, 3) {
          while any(masked in b) {
            p = lm(everything)
            commit p.token at top(masked in b, 1, by: p.max)
            truncate after(top(masked where position mod 3 == 0, 1, by: p.max))
          }
        }""",
    "a cut in the present block, by its cache": """
        for b in blocks(answer, 4) {
          p = lm(everything)
          commit p.token at first(masked in b)
          while any(masked in b) {
            q = lm(b)
            commit q.token at top(masked in b, 1, by: q.max)
            truncate masked in b where q.max > 0.4 and position > 9
          }
          refresh lm(after(b))
        }""",
    "rows that are cut in different places": """
        for b in blocks(answer, 4) {
          for c in blocks(b, 2) {
            p = lm(everything)
            commit p.token at masked in c
            if count(prompt) > 3 { truncate after(c) } else { truncate after(after(c)) }
          }
        }""",
    "before the answer, and a second time": """
        p = lm(everything)
        commit p.token at first(masked)
        truncate answer where position mod 5 == 4
        truncate everything where position > 100
        q = lm(everything)
        n = count(everything)
        commit q.token at top(masked, n - 5, by: q.max)
        truncate prompt""",
    "what is left is masked again": """
        p = lm(everything)
        commit p.token at masked
        truncate after(after(first(answer)))
        mask answer
        q = lm(answer)
        commit q.token at masked""",
}


@pytest.mark.parametrize("word", BODIES)
def test_as_the_oracle(word: str) -> None:
    strategy = read(BODIES[word])
    wanted = oracle(strategy, PROMPTS, LENGTH)
    found = compiled(lowered(strategy, 2), PROMPTS, LENGTH)
    assert any(len(row.answer) < LENGTH for row in wanted)
    for want, got in zip(wanted, found, strict=True):
        size = len(want.answer)
        assert Row(got.answer[:size], got.order[:size], got.calls, got.fed) == want
        assert not any(got.order[size:])


def test_an_answer_is_as_long_as_the_canvas_that_is_left(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a caller gets from an artifact, in a batch, and that `verify` agrees."""
    text = read(BODIES["a cut in a later block"]).text
    out = tmp_path_factory.mktemp("artifact") / "two"
    dcompile.build(text, TINY, out, max_length=24, batch=2, rng=False)
    rows = dcompile.load(out).generate([[5, 6, 7], [8, 9, 10, 11]], max_new_tokens=9)
    assert [len(row.output_ids) for row in rows] == [sum(row.committed_per_call) for row in rows]
    assert all(len(row.output_ids) < 9 for row in rows)
    assert [o.verdict for o in verify(out, TINY, max_new_tokens=12)] == ["same"] * 4


def test_a_canvas_that_grows_has_no_end_to_cut() -> None:
    text = "strategy s {\nmodel lm: causal\ncanvas answer = empty(length)\ntruncate answer\n}\n"
    with pytest.raises(CompileError, match="wrong-canvas"):
        read(text)
