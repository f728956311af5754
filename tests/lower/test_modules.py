"""Modules: a network over a block, by the oracle and by the interpreter; in artifacts; wrong files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import dcompile
from dcompile import compiler
from dcompile.artifact import open_artifact
from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.source import Source
from dcompile.strategy import Strategy
from dcompile.verify import verify
from tests.lower.test_random_programs import PROMPTS, agree
from tests.passes.rows import compiled, lowered, oracle

TINY = Path(__file__).parents[1] / "conformance" / "models" / "tiny-llada"
TEXT = """strategy s {
  model lm: masked
  module net(prob[4]) -> float[4] = "net.safetensors"
  canvas answer = masked(length)
  for b in blocks(answer, BLOCK) {
    while any(masked in b) {
      p = lm(everything)
      commit p.token at (masked in b where net(p.max in b) > 0.0) or top(masked in b, 1, by: net(p.max in b))
    }
  }
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a network of three layers, named so that the order of names and of numbers differ."""
    draw = torch.Generator().manual_seed(3)
    shapes = {"layer1.weight": (6, 4), "layer1.bias": (6,), "layer2.weight": (5, 6), "layer10.weight": (4, 5)}
    weights = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "net.safetensors")
    return tmp_path


def read(folder: Path, block: int = 4, text: str = TEXT) -> Strategy:
    return load(Source("s.dcs", text.replace("BLOCK", str(block)), folder))


@pytest.mark.parametrize("block", [4, 3])
@pytest.mark.parametrize("kind", ["float", "prob"])
def test_short_blocks_and_unequal_rows(folder: Path, block: int, kind: str) -> None:
    """Six positions in blocks of four and three, in rows of unequal prompts."""
    agree(read(folder, block, TEXT.replace("-> float[4]", f"-> {kind}[4]").replace("> 0.0", "> 0.3")))


def test_a_last_block_at_the_end_of_the_canvas(folder: Path) -> None:
    """A frame of four slots that would stick out begins before its block; the network must not see that."""
    strategy, length = read(folder), 6
    program = lowered(strategy, 2, capacity=max(map(len, PROMPTS)) + length)
    found = compiled(program, PROMPTS, length)
    assert found == oracle(strategy, PROMPTS, length)


def test_the_network_decides(folder: Path) -> None:
    """With other weights other tokens are committed together: the module is not left out on both sides."""
    first = oracle(read(folder), PROMPTS, 6)
    torch.manual_seed(1)
    save_file({"a.weight": torch.zeros(4, 4), "a.bias": torch.ones(4)}, folder / "net.safetensors")
    other = oracle(read(folder), PROMPTS, 6)
    assert [row.calls for row in other] == [2, 2]  # all of a block at once
    assert [row.calls for row in first] != [2, 2]


def test_a_module_is_zero_outside_of_its_block(folder: Path) -> None:
    text = TEXT.replace("or top(masked in b, 1, by: net(p.max in b))", "or top(masked in b, 1, by: p.max)")
    whole = text.replace("(masked in b where net(p.max in b) > 0.0)", "(masked where net(p.max in b) != 0.0)")
    strategy = read(folder, 4, whole)
    agree(strategy)
    assert all(row.order == (1, 1, 1, 1, 2, 2) for row in oracle(strategy, PROMPTS, 6))


def test_an_artifact_has_its_module_with_it(folder: Path) -> None:
    """Built twice the bytes are the same; verify finds the module when its first place is gone."""
    (folder / "s.dcs").write_text(TEXT.replace("BLOCK", "4"), encoding="utf-8")
    for name in ("one", "two"):
        dcompile.build(folder / "s.dcs", TINY, folder / name, max_length=48, rng=False)
    assert (folder / "one/manifest.json").read_bytes() == (folder / "two/manifest.json").read_bytes()
    assert "modules/net.safetensors" in open_artifact(folder / "one").manifest.files
    assert str(folder) not in (folder / "one/manifest.json").read_text(encoding="utf-8")
    (folder / "net.safetensors").unlink()
    outcomes = list(verify(folder / "one", TINY, [[5, 6, 7], [8, 9, 10, 11]], max_new_tokens=14))
    assert [o.verdict for o in outcomes] == ["same", "same"]
    with pytest.raises(CompileError, match="missing-module"):
        dcompile.build(folder / "s.dcs", TINY, folder / "three", max_length=48)


def test_another_file_by_a_setting(folder: Path) -> None:
    (folder / "net.safetensors").rename(folder / "other.safetensors")
    (folder / "s.dcs").write_text(TEXT.replace("BLOCK", "4"), encoding="utf-8")
    strategy = compiler.read(folder / "s.dcs", {"net": str(folder / "other.safetensors")})
    assert [layer.outputs for layer in strategy.modules[0].layers] == [6, 5, 4]
    with pytest.raises(CompileError, match=r"missing-module.*cannot be read"):
        compiler.read(folder / "s.dcs", {"net": str(folder / "none.safetensors")})


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a.weight": torch.zeros(5, 4)}, "declared 4 -> 4, its file holds 4 -> 5"),
        ({"a.weight": torch.zeros(3, 4), "b.weight": torch.zeros(4, 2)}, "holds 4 -> 3, 2 -> 4"),
        ({"a.weight": torch.zeros(4, 4), "a.bias": torch.zeros(3)}, r"with the shapes \[\[4, 4\], \[3\]\]"),
        ({"a.weight": torch.zeros(4, 4, dtype=torch.float16)}, "holds `a.weight` as F16"),
        ({"a.weight": torch.zeros(4, 4), "scale": torch.zeros(4)}, "holds `a.weight`, `scale`"),
    ],
)
def test_a_file_that_does_not_fit(folder: Path, tensors: dict[str, torch.Tensor], words: str) -> None:
    save_file(tensors, folder / "net.safetensors")
    with pytest.raises(CompileError, match=words):
        read(folder)


def test_a_file_that_is_none(folder: Path) -> None:
    (folder / "net.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(CompileError, match="is no safetensors file"):
        read(folder)
