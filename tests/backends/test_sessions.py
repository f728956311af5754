"""State that lives for a session: what one run leaves, the next begins with, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dcompile
from dcompile import compiler
from dcompile.reference import run
from dcompile.source import Source
from tests.cli.checkpoint import write

TEXT = """
strategy budget {
  model lm: causal
  canvas answer = empty(length)
  state spent: int = 0 per session
  repeat {
    p = lm(last)
    append p.token
    spent = spent + 1
    stop when spent >= 5
  } until eos
}
"""
PROMPTS = [[5, 6, 7], [8, 9]]


@pytest.mark.parametrize(("target", "loop"), [("eager", "inside"), ("onnx", "inside"), ("onnx", "step")])
def test_a_session_goes_on(target: str, loop: str, tmp_path: Path) -> None:
    place = write(tmp_path / "model")
    (tmp_path / "budget.dcs").write_text(TEXT)
    dcompile.build(tmp_path / "budget.dcs", place, tmp_path / "out", target, max_length=32, loop=loop, batch=2)
    strategy, model = compiler.read(Source("budget.dcs", TEXT), {}), compiler.load(place)
    session = dcompile.load(tmp_path / "out")
    left: list[dict[str, object]] = [{}, {}]
    for length in (3, 4, 4):
        found = session.generate(PROMPTS, max_new_tokens=length)
        for row, (prompt, result) in enumerate(zip(PROMPTS, found, strict=True)):
            own = run(strategy, model, prompt, length=length, session=left[row])  # type: ignore[arg-type]
            left[row] = dict(own.session)
            assert (result.output_ids, result.model_calls) == (own.output_ids, own.model_calls)
    assert [len(r.output_ids) for r in found] == [1, 1]
    assert np.array_equal(session.memory["session_spent"], [6, 6])
    session.generate(PROMPTS[0], max_new_tokens=4)
    assert np.array_equal(session.memory["session_spent"], [7, 6])
    session.forget()
    assert len(session.generate(PROMPTS[0], max_new_tokens=9).output_ids) == 5


RECYCLED = """
strategy recycled {
  model lm: causal
  state table: token[vocab, 2] = 0 per session
  canvas answer = empty(length)
  repeat {
    draft t = expand(2, 2) from last { token = table[parent.token, rank] }
    p = lm(t)
    accept t where token == parent.p.token
    table[t.token] = p.top(2)
  } until eos
}
"""


@pytest.mark.parametrize(("target", "loop"), [("onnx", "inside"), pytest.param("onnx", "step", marks=pytest.mark.slow)])
def test_a_table_of_a_session(target: str, loop: str, tmp_path: Path) -> None:
    place = write(tmp_path / "model")
    (tmp_path / "recycled.dcs").write_text(RECYCLED)
    dcompile.build(tmp_path / "recycled.dcs", place, tmp_path / "out", target, max_length=32, loop=loop, batch=2)
    strategy, model = compiler.read(Source("recycled.dcs", RECYCLED), {}), compiler.load(place)
    session = dcompile.load(tmp_path / "out")
    left: list[dict[str, object]] = [{}, {}]
    calls = []
    for _ in range(2):
        found = session.generate(PROMPTS, max_new_tokens=8)
        calls.append([r.model_calls for r in found])
        for row, (prompt, result) in enumerate(zip(PROMPTS, found, strict=True)):
            own = run(strategy, model, prompt, length=8, session=left[row])  # type: ignore[arg-type]
            left[row] = dict(own.session)
            assert (result.output_ids, result.model_calls) == (own.output_ids, own.model_calls)
            assert np.array_equal(session.memory["session_table"][row], own.session["table"].numpy())
    assert all(later < first for first, later in zip(*calls, strict=True))  # the same text again was recycled
    session.generate(PROMPTS[0], max_new_tokens=4)
    assert np.array_equal(session.memory["session_table"][1], left[1]["table"].numpy())  # type: ignore[attr-defined]
