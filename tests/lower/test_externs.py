"""Extern rules: functions in torch, by the oracle and in the graph; in artifacts; wrong functions."""

from __future__ import annotations

from pathlib import Path

import pytest

import dcompile
from dcompile.artifact import open_artifact
from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.source import Source
from dcompile.strategy import Strategy
from dcompile.verify import verify
from tests.lower.test_random_programs import PROMPTS, agree
from tests.passes.rows import compiled, lowered, oracle

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "conformance" / "models" / "tiny-llada"
FUNCTIONS = """
import torch


def near(live, score, region, turn):
    at = torch.arange(live.shape[0])
    best = torch.argmax(torch.where(region, score, -1.0))
    return (torch.abs(at - best) <= turn) & region


def ranks(live, tokens):
    return torch.cumsum(live.to(torch.int64), 0) * 7 % 31 + 0 * tokens


def total(live, score):
    return torch.where(live, score, 0.0).sum() / live.to(torch.float32).sum()


def evidence(live, table, tokens):
    return table * 0.5 + (tokens.unsqueeze(1) == torch.arange(table.shape[1])).to(torch.float32)


def count(live):
    return live.to(torch.int64).sum()


def beyond(live):
    return torch.ones_like(live)
"""
HEAD = """strategy s {
  model lm: masked
  extern rule near(score: float[canvas], region: bool[canvas], turn: int) -> bool[canvas] = "rules.py:near"
  extern rule ranks(tokens: token[canvas]) -> token[canvas] = "rules.py:ranks"
  extern rule total(score: float[canvas]) -> float = "rules.py:total"
  extern rule evidence(table: float[canvas, vocab], tokens: token[canvas]) -> float[canvas, vocab] = "rules.py:evidence"
  extern rule count_all() -> int = "rules.py:count"
  extern rule beyond() -> bool[canvas] = "rules.py:beyond"
  canvas answer = masked(length)
"""
BODIES = {
    "a region": """
        turn = 0
        while any(masked) {
          p = lm(everything)
          commit p.token at (masked where near(p.max, masked, turn)) or top(masked, 1, by: p.max)
          turn = turn + 1
        }""",
    "tokens, a number, and blocks of unequal rows": """
        for b in blocks(canvas, 4) {
          while any(masked in b) {
            p = lm(everything)
            if total(p.max if b else 0.0) > 0.05 { commit ranks(token) at first(masked in b) }
            commit p.token at take(masked in b, by: p.max, while: near(p.max, b, 1) and count <= 2, atleast: 1)
          }
        }""",
    "a table": """
        state T: float[canvas, vocab] = 0
        for t in 1 to 3 {
          p = lm(everything)
          T = evidence(T, p.top)
          q = p plus -9 * T
          commit q.token at top(masked, 2, by: q.max)
        }""",
    "the canvas alone": """
        p = lm(everything)
        commit p.token at top(masked, count_all() - 6, by: p.max)
        r = lm(beyond())
        commit r.token at beyond()""",
}


def read(folder: Path, body: str, functions: str = FUNCTIONS) -> Strategy:
    (folder / "rules.py").write_text(functions, encoding="utf-8")
    return load(Source("s.dcs", HEAD + body + "\n}\n", folder))


@pytest.mark.parametrize("word", BODIES)
def test_as_the_oracle(word: str, tmp_path: Path) -> None:
    agree(read(tmp_path, BODIES[word]))
    agree(read(tmp_path, BODIES[word]), shift=True)


def test_what_was_cut_off_is_not_live(tmp_path: Path) -> None:
    body = """
        p = lm(everything)
        truncate after(take(masked, atmost: 3))
        commit p.token at top(masked, count_all() - 5, by: p.max)
        commit ranks(token) at masked"""
    strategy = read(tmp_path, body)
    want, found = oracle(strategy, PROMPTS, 6), compiled(lowered(strategy, 2), PROMPTS, 6)
    assert [row.answer[:3] for row in found] == [row.answer for row in want]
    assert [row.order[:3] for row in found] == [row.order for row in want]


def test_the_function_decides(tmp_path: Path) -> None:
    """Another function, other tokens: it is not left out on both sides."""
    first = oracle(read(tmp_path, BODIES["a region"]), PROMPTS, 6)
    other = FUNCTIONS.replace("<= turn) & region", "<= 9) & region")
    assert [r.calls for r in oracle(read(tmp_path, BODIES["a region"], other), PROMPTS, 6)] == [1, 1]
    assert [r.calls for r in first] != [1, 1]


def test_an_artifact_has_its_function_with_it(tmp_path: Path) -> None:
    """Verify finds it when its first place is gone; the file's path is nowhere in the manifest."""
    for name in ("density.dcs", "density.py"):
        (tmp_path / name).write_bytes((ROOT / "examples" / "extern_rule" / name).read_bytes())
    dcompile.build(tmp_path / "density.dcs", TINY, tmp_path / "out", "onnx", max_length=48, rng=False, batch=2)
    assert "rules/density.py" in open_artifact(tmp_path / "out").manifest.files
    assert str(tmp_path) not in (tmp_path / "out/manifest.json").read_text(encoding="utf-8")
    (tmp_path / "density.py").unlink()
    outcomes = list(verify(tmp_path / "out", TINY, [[5, 6, 7], [8, 9, 10, 11]], max_new_tokens=14))
    assert [o.verdict for o in outcomes] == ["same", "same"]
    with pytest.raises(CompileError, match="missing-extern"):
        dcompile.build(tmp_path / "density.dcs", TINY, tmp_path / "two", max_length=48)
    with pytest.raises(CompileError, match=r"missing-extern.*cannot be read"):
        dcompile.build(tmp_path / "density.dcs", TINY, tmp_path / "two", settings={"density": str(tmp_path / "no.py")})


ONE = """strategy s {
  model lm: masked
  extern rule f(score: float[canvas]) -> float[canvas] = "rules.py:f"
  canvas answer = masked(length)
  p = lm(everything)
  commit p.token at top(masked, length, by: f(p.max))
}
"""


def one(folder: Path, body: str) -> Strategy:
    (folder / "rules.py").write_text(f"import torch\ndef f(live, score):\n    {body}\n", encoding="utf-8")
    return load(Source("s.dcs", ONE, folder))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return score[:3]", r"is declared float32 \[24\], and returns float32 \[3\]"),
        ("return score > 0", r"is declared float32 \[24\], and returns bool \[24\]"),
        ("return 3", "returns no tensor, but int"),
        ("return score if score.sum() > 0 else -score", "asks for the value of a tensor"),
        ("return score + torch.zeros(3)", "fails on its arguments"),
        ("return unknown", "name 'unknown' is not defined"),
        ("score.add_(1)\n    return score", "a Program never writes in place"),
    ],
)
def test_a_function_that_does_not_fit(body: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=words) as caught:
        lowered(one(tmp_path, body))
    assert "error[wrong-extern]" in str(caught.value) and "s.dcs:3:3" in str(caught.value)


@pytest.mark.parametrize("text", ["def f(live, score:\n", "def f(live, score): return '", "\0"])
def test_a_file_that_is_no_python(text: str, tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(text, encoding="utf-8")
    with pytest.raises(CompileError, match=r"error\[wrong-extern\]: `rules.py` is no Python"):
        load(Source("s.dcs", ONE, tmp_path))


def test_the_oracle_says_so_too(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"is declared float32 \[9\], and returns float32 \[3\]"):
        oracle(one(tmp_path, "return score[:3]"), [(5, 6, 7)], 6)


def test_an_operation_that_a_target_lacks(tmp_path: Path) -> None:
    """The message points at the line that uses the rule."""
    strategy = one(tmp_path, "return torch.linalg.inv_ex(torch.eye(live.shape[0]) + score.reshape(1, -1))[0].sum(1)")
    agree(strategy)
    (tmp_path / "s.dcs").write_text(ONE, encoding="utf-8")
    with pytest.raises(CompileError, match=r"unsupported-op(.|\n)*linalg_inv_ex(.|\n)*s.dcs:6:45"):
        dcompile.build(tmp_path / "s.dcs", TINY, tmp_path / "out", "onnx", max_length=48, rng=False)
