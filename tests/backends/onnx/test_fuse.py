"""Norms, rotary embeddings and rows of a cache as ORT's own kernels: found where they are, and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from dcompile.backends.onnx.build import ONNX
from dcompile.backends.onnx.run import load
from tests.backends.harness import BACKENDS, program_of

torch.set_num_threads(1)


def floats(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def norm(x: Tensor, w: Tensor) -> Tensor:
    wide = x.to(torch.float32)
    return w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


def block(x: Tensor, y: Tensor, w: Tensor) -> Any:
    total = x + y
    return total * 2, norm(total, w)


def norm_of_scaled_weight(x: Tensor, w: Tensor) -> Tensor:
    return norm(x, 1.0 + w)


def norm_over_the_wrong_axis(x: Tensor, w: Tensor) -> Tensor:
    return w * (x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5))


def norm_of_something_else(x: Tensor, w: Tensor) -> Tensor:
    return w * (x * torch.rsqrt((x + 1).pow(2).mean(-1, keepdim=True) + 1e-5))


def angles(width: int, dim: int, rows: int = 1, same: bool = True) -> tuple[Tensor, Tensor]:
    positions = torch.arange(width).reshape(1, width, 1) + 3.0 * torch.arange(rows).reshape(rows, 1, 1)
    half = positions * torch.arange(1, dim // 2 + 1) * 0.1
    full = torch.cat([half, half if same else half * 2], -1)
    return full.cos().unsqueeze(1), full.sin().unsqueeze(1)


def turned(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat([-x[..., half:], x[..., :half]], -1)


def rotary(rows: int = 1, same: bool = True) -> Callable[..., Any]:
    def run(q: Tensor, k: Tensor) -> Any:
        cos, sin = angles(q.shape[2], q.shape[3], rows, same)
        return q * cos + turned(q) * sin, k * cos + turned(k) * sin

    return run


def wrong_turn(q: Tensor, k: Tensor) -> Any:
    cos, sin = angles(q.shape[2], q.shape[3])
    return q * cos + turned(k) * sin


def write_rows(cache: Tensor, new: Tensor, start: Tensor) -> Tensor:
    index = (start.reshape(2, 1, 1, 1) + torch.arange(2).reshape(1, 1, 2, 1)).expand(new.shape)
    kept = torch.where(new > 0, new, torch.gather(cache, 2, index))
    return torch.scatter(cache, 2, index, kept)


def write_numbers(cache: Tensor, new: Tensor, start: Tensor) -> Tensor:
    index = (start.reshape(2, 1, 1, 1) + torch.arange(8)).expand(new.shape) % 6
    return torch.scatter(cache, 2, index, new)


Q, K = floats(2, 4, 3, 8), floats(2, 2, 3, 8, seed=1)
X, W = floats(2, 3, 16), floats(16, seed=1)
CACHE = (floats(2, 3, 6, 8), floats(2, 3, 2, 8, seed=1), torch.tensor([1, 4]))

CASES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], dict[str, int]]] = {
    "norm": (norm, (X, W), {"SimplifiedLayerNormalization": 1}),
    "norm of a sum": (block, (X, X * 0.5, W), {"SkipSimplifiedLayerNormalization": 1, "Mul": 1}),
    "scaled weight": (norm_of_scaled_weight, (X, W), {"SimplifiedLayerNormalization": 1, "Add": 1}),
    "rotary": (rotary(), (Q, K), {"RotaryEmbedding": 2}),
    "rotary by row": (rotary(rows=2), (Q, K), {"RotaryEmbedding": 2}),
    "rows": (write_rows, CACHE, {"ScatterND": 1, "GatherND": 1}),
}
LEFT_ALONE: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], str]] = {
    "another axis": (norm_over_the_wrong_axis, (floats(2, 16, 16), W), "SimplifiedLayerNormalization"),
    "another square": (norm_of_something_else, (X, W), "SimplifiedLayerNormalization"),
    "halves that differ": (rotary(same=False), (Q, K), "RotaryEmbedding"),
    "half of another": (wrong_turn, (Q, floats(2, 4, 3, 8, seed=3)), "RotaryEmbedding"),
    "index by number": (write_numbers, CACHE, "ScatterND"),
}


def run(function: Callable[..., Any], inputs: tuple[Tensor, ...], folder: Path) -> Counter[str]:
    """The kinds of nodes of a function in ONNX, whose results are those of torch."""
    module = make_fx(lambda *xs: function(*xs), tracing_mode="fake", pre_dispatch=True)(*inputs)
    files = ONNX().build(program_of(module), folder)
    want = function(*inputs)
    for a, b in zip(BACKENDS["onnx"](module, inputs), [want] if isinstance(want, Tensor) else want, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)
    return Counter(node.op_type for node in ir.load(folder / files["main"]).graph)


@pytest.mark.parametrize("case", CASES)
def test_found(case: str, tmp_path: Path) -> None:
    function, inputs, want = CASES[case]
    found = run(function, inputs, tmp_path)
    assert {kind: found[kind] for kind in want} == want
    assert not {"Sqrt", "Neg", "ScatterElements", "GatherElements"} & set(found)


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_left_alone(case: str, tmp_path: Path) -> None:
    function, inputs, kind = LEFT_ALONE[case]
    assert kind not in run(function, inputs, tmp_path)


class Heads(torch.nn.Module):
    """Three layers of one input, one of them with a bias, and one of another input."""

    def __init__(self) -> None:
        super().__init__()
        for name, size in (("a", 24), ("b", 16), ("c", 8), ("d", 16)):
            self.register_parameter(name, torch.nn.Parameter(floats(size, 32, seed=size)))
        self.bias = torch.nn.Parameter(floats(16, seed=9))


def heads(module: Heads, names: str) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> Any:
        biases = {"b": module.bias}
        found = [torch.nn.functional.linear(x, getattr(module, n), biases.get(n)) for n in names]
        return (*found, torch.nn.functional.linear(x * 2.0, module.d))

    return run


def test_layers_of_one_input_are_one_product(tmp_path: Path) -> None:
    """Also where another graph needs only some of them."""
    module, x = Heads(), floats(2, 3, 32)
    trace = {
        names: make_fx(heads(module, names), tracing_mode="fake", pre_dispatch=True, _allow_non_fake_inputs=True)(x)
        for names in ("bc", "abc")
    }
    graphs = [replace(program_of(traced).graphs[0], name=names) for names, traced in trace.items()]
    program = program_of(trace["bc"]).with_graphs(tuple(graphs))
    files = ONNX().build(program, tmp_path)
    for names, traced in trace.items():
        nodes = Counter(node.op_type for node in ir.load(tmp_path / files[names]).graph)
        assert (nodes["FusedMatMul"], nodes["Split"]) == (2, 1)
        found = load(tmp_path, files, 1).run(names, {"in_0": x.numpy()})
        for a, b in zip(found.values(), traced(x), strict=True):
            torch.testing.assert_close(torch.from_numpy(a), b.detach(), rtol=2e-6, atol=2e-6)
    weights = sum(t.numel() * 4 for t in (module.a, module.b, module.c, module.d))
    assert (tmp_path / "weights.safetensors").stat().st_size < weights + 1024
