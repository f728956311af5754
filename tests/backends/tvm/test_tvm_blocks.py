"""Matrices in blocks on TVM: the products, and the tokens of the oracle on the floats that the codes mean."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import embedding, linear

import dcompile
from dcompile.backends.tvm.blocks import by_blocks
from dcompile.backends.tvm.build import TVM
from dcompile.backends.tvm.run import load
from dcompile.models.blocks import Bits, Blocks, nearest
from dcompile.program import Program
from dcompile.record import Recorder
from dcompile.verify import verify
from tests.backends.harness import program_of
from tests.cli.checkpoint import write

torch.set_num_threads(1)
BITS = ("int8", "int4", "int4-symmetric")
COLUMNS = 192  # three blocks of 64, where steps lie around 0
LLADA = Path(__file__).parents[2] / "conformance" / "models" / "tiny-llada"
GOLDEN = Path(__file__).with_name("blocks.txt")
PROMPTS = ([5, 9, 17, 23, 8], [40, 41, 42])


def matrix(bits: str, rows: int = 12, columns: int = COLUMNS) -> Blocks:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)) * 0.1 + 0.02
    return nearest(weight, cast(Bits, bits))


def parts(blocks: Blocks) -> dict[str, Tensor]:
    found = {"codes": blocks.codes, "scale": blocks.scale, "floats": blocks.floats}
    return found if blocks.least is None else {**found, "least": blocks.least}


def products(bits: str, rows: int) -> Program:
    """Rows x [rows, 192] times a matrix in blocks, and times its floats; and two of its rows, both ways."""
    blocks = matrix(bits)
    held = parts(blocks)
    recorder = Recorder(held)
    with recorder.recording():
        x = recorder.input("in_0", (1, rows, COLUMNS), torch.float32)
        at = recorder.input("in_1", (1, 2), torch.int64)
        codes, scale, least = held["codes"], held["scale"], held.get("least")
        results = [
            torch.ops.dcompile.linear_blocks(x, codes, scale, least, blocks.bits, False),
            linear(x, held["floats"]),
            torch.ops.dcompile.embed_blocks(codes, scale, least, blocks.bits, at),
            embedding(at, held["floats"]),
        ]
        return program_of(recorder.finish(results))


@pytest.mark.parametrize("rows", [1, 3, 4])
@pytest.mark.parametrize("bits", BITS)
def test_a_product_is_that_of_the_floats(bits: str, rows: int) -> None:
    """int8: bit by bit. Two codes a byte change the order of the sum."""
    program, backend = products(bits, rows), TVM()
    assert not backend.missing(program)
    x = torch.randn(1, rows, COLUMNS, generator=torch.Generator().manual_seed(rows))
    at = torch.tensor([[7, 0]])
    with tempfile.TemporaryDirectory() as folder:
        executable = load(Path(folder), backend.build(program, Path(folder)), threads=1)
        found = executable.run("main", {"in_0": x.numpy(), "in_1": at.numpy()})
        outs = [torch.from_numpy(found[f"out_{i}"].copy()) for i in range(4)]
        executable.close()
    floats = matrix(bits).floats
    assert torch.allclose(outs[0], linear(x, floats), atol=1e-5, rtol=1e-5)
    assert torch.equal(outs[0], outs[1]) if bits == "int8" else torch.allclose(outs[0], outs[1], atol=1e-6)
    assert torch.equal(outs[2], floats[at]) and torch.equal(outs[3], floats[at])


def test_what_a_product_becomes(accept: bool) -> None:
    """With offsets, two codes a byte, and a scale for 64 of them; `--accept` writes it anew."""
    made = str(by_blocks(True, 1, 12, 4, 2, True, True).script()) + "\n"
    if accept:
        GOLDEN.write_text(made, encoding="utf-8")
    assert made == GOLDEN.read_text(encoding="utf-8")


def test_only_codes_are_stored(tmp_path: Path) -> None:
    model = write(tmp_path / "model", layers=1)
    dcompile.build(
        "greedy", model, tmp_path / "out", "tvm", max_length=64, loop="step", rng=False, quantize="int8"
    )  # fmt: skip
    stored = load_file(tmp_path / "out" / "weights.safetensors")
    assert {str(t.dtype) for t in stored.values()} == {"torch.uint8", "torch.float16"}
    outcomes = verify(tmp_path / "out", model, PROMPTS, max_new_tokens=16)
    assert [o.verdict for o in outcomes] == ["same", "same"]


@pytest.mark.slow
@pytest.mark.parametrize("bits", BITS)
def test_a_masked_model_gives_the_oracles_tokens(bits: str, tmp_path: Path) -> None:
    dcompile.build(
        "fast_dllm_dual", LLADA, tmp_path / "out", "tvm", max_length=64, loop="step", rng=False, quantize=bits
    )  # fmt: skip
    assert [o.verdict for o in verify(tmp_path / "out", LLADA, PROMPTS, max_new_tokens=16)] == ["same", "same"]
