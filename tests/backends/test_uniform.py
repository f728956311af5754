"""A canvas of random tokens on a masked model: every target draws the oracle's tokens, in a batch as alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import dcompile
from dcompile.verify import verify

TINY = Path(__file__).parents[1] / "conformance" / "models" / "tiny-llada"
TEXT = """strategy denoise {
  model lm: masked
  canvas answer = uniform(length)
  state best: token[canvas] = 0

  for b in blocks(answer, 8) {
    for t in 1 to 6 {
      p = lm(everything)
      sure = take(b, by: p.entropy, while: sum(p.entropy) - p.entropy <= 1.5)
      overwrite p.token at sure
      noise b and not sure
      break when all(p.top == best in b)
      best = p.top if b else best
    }
    commit best at b
  }
}
"""
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("target", "loop"),
    [("onnx", "inside"), pytest.param("onnx", "step", marks=SLOW), pytest.param("tvm", "step", marks=SLOW)],
)
def test_same_tokens(target: str, loop: str, tmp_path: Path) -> None:
    dcompile.build(TEXT, TINY, tmp_path / "a", target, max_length=48, loop=loop, rng=target != "tvm")
    outcomes = list(verify(tmp_path / "a", TINY, [[5, 6, 7], [8, 9, 10, 11]], max_new_tokens=14))
    assert [o.verdict for o in outcomes] == ["same"] * len(outcomes), list(map(str, outcomes))


def test_rows_of_a_batch(tmp_path: Path) -> None:
    for batch in (1, 3):
        dcompile.build(TEXT, TINY, tmp_path / str(batch), max_length=48, batch=batch, rng=False)
    prompts = [[5, 6, 7, 8, 9], [11, 12], [31, 32, 33]]
    together = dcompile.load(tmp_path / "3").generate(prompts, max_new_tokens=12, seed=4)
    alone = dcompile.load(tmp_path / "1")
    single = [alone.generate(p, max_new_tokens=12, seed=4 + r) for r, p in enumerate(prompts)]
    assert [row.output_ids for row in together] == [row.output_ids for row in single]
    assert [row.model_calls for row in together] == [row.model_calls for row in single]
    assert single[0].output_ids != alone.generate(prompts[0], max_new_tokens=12, seed=40).output_ids
