"""Matrices in blocks: GGUF's taken code for code, floats rounded to the nearest."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

from dcompile.models.blocks import Bits, Blocks, nearest, of_gguf, select

KINDS = (GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0)


def matrix(rows: int = 24, columns: int = 96) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)) * 0.1 + 0.02


def read(weight: torch.Tensor, kind: GGMLQuantizationType) -> tuple[Blocks, torch.Tensor]:
    """A matrix as a GGUF file has it: in blocks, and as the gguf package dequantises it."""
    raw = gguf.quants.quantize(weight.numpy(), kind)
    found = of_gguf(raw, kind.value, tuple(weight.shape))
    assert found is not None
    return found, torch.from_numpy(gguf.quants.dequantize(raw, kind))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_gguf_is_taken_code_for_code(kind: GGMLQuantizationType) -> None:
    blocks, meant = read(matrix(), kind)
    assert torch.equal(blocks.floats, meant)
    rows = torch.tensor([5, 0, 7])
    assert torch.equal(select(blocks, rows).floats, meant[rows])


def test_blocks_of_one_weight_repeated() -> None:
    """Their scale is 0 in a file."""
    blocks, meant = read(torch.full((2, 32), 0.25), GGMLQuantizationType.Q4_1)
    assert torch.equal(blocks.floats, meant)


def test_other_types_have_no_blocks() -> None:
    assert of_gguf(np.zeros(128, np.uint8), GGMLQuantizationType.F16.value, (2, 32)) is None
    assert of_gguf(np.zeros(36, np.uint8), GGMLQuantizationType.Q4_0.value, (64,)) is None


@pytest.mark.parametrize(("bits", "steps"), [("int4", 15), ("int4-symmetric", 14), ("int8", 254)])
def test_rounding_is_within_half_a_step(bits: Bits, steps: int) -> None:
    weight = matrix()
    found = nearest(weight, bits).floats
    apart = weight.reshape(24, 3, 32)
    reach = apart.amax(-1) - apart.amin(-1) if bits == "int4" else 2 * apart.abs().amax(-1)
    error = (found.reshape(apart.shape) - apart).square().mean(-1).sqrt()
    assert (error <= reach / steps * 0.51).all()
    assert error.mean() > 0


def test_a_smaller_range_is_taken_where_it_is_better() -> None:
    """One outlier a block: cutting it off costs less than coarse steps for all others."""
    weight = torch.linspace(-1, 1, 32).repeat(4, 1)
    weight[:, 0] = -1.25
    plain = (weight - nearest(weight, "int4").floats).square().sum()
    low, high = weight.amin(-1, keepdim=True), weight.amax(-1, keepdim=True)
    step = (high - low) / 15
    full = (weight - (((weight - low) / step).round() * step + low)).square().sum()
    assert plain < full


@pytest.mark.parametrize("bits", ["int8", "int4-symmetric"])
def test_rounding_what_is_rounded_changes_nothing(bits: Bits) -> None:
    once = nearest(matrix(), bits).floats
    assert torch.equal(nearest(once, bits).floats, once)


def test_steps_around_0_need_no_offset() -> None:
    """Which end the farthest weight takes is chosen by the error: -8 has one step more than 7."""
    weight = torch.tensor([[0.8] + [0.1] * 31, [0.7] + [-0.1] * 31])
    found = nearest(weight, "int4-symmetric")
    assert found.least is None
    assert torch.allclose(found.floats, weight, atol=3e-4)


@pytest.mark.parametrize(("bits", "error"), [("int4", 0.076), ("int4-symmetric", 0.091), ("int8", 0.006)])
def test_the_error_of_each_is_the_one_in_the_docs(bits: Bits, error: float) -> None:
    """Root of the mean square, as a share of the deviation of normally distributed weights."""
    weight = torch.randn(2000, 576, generator=torch.Generator().manual_seed(0))
    assert (nearest(weight, bits).floats - weight).square().mean().sqrt() == pytest.approx(error, abs=5e-4)
