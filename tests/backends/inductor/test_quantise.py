"""Matrices in blocks on the target `cpu`: what the pass makes, and the tokens of the oracle on what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import dcompile
from dcompile.backends.inductor.blocks import EMBED_PACKED, LINEAR_PACKED
from dcompile.backends.inductor.pack_blocks import PackBlocks
from dcompile.backends.inductor.tiles import EMBED_ROUGH, LINEAR_ROUGH
from dcompile.models.blocks import nearest
from dcompile.passes.base import Stage, run_passes
from dcompile.passes.facts import arguments
from dcompile.printing import text
from dcompile.record import Recorder
from dcompile.verify import verify
from tests.backends.harness import program_of, through
from tests.cli.checkpoint import write
from tests.passes.test_golden import HERE, check

torch.set_num_threads(1)
LLADA = Path(__file__).parents[2] / "conformance" / "models" / "tiny-llada"
PROMPTS = ([5, 9, 17, 23, 8], [40, 41, 42])
WIDE = 96
WIDTHS = {"first": 4, "second": 4, "odd": 4, "head": 8}


def held() -> dict[str, Tensor]:
    """Two matrices that fit each other, and one of other steps."""
    generator = torch.Generator().manual_seed(2)
    ways = {"first": (6, "int4"), "second": (10, "int4"), "odd": (4, "int4-symmetric"), "head": (7, "int8")}
    made = {name: nearest(torch.randn(rows, WIDE, generator=generator), bits) for name, (rows, bits) in ways.items()}  # type: ignore[arg-type]
    parts = {f"{name}_{part}": getattr(b, part) for name, b in made.items() for part in ("codes", "scale", "least")}
    return {name: tensor for name, tensor in parts.items() if tensor is not None}


@pytest.mark.parametrize("rough", [False, True])
def test_layers_that_read_the_same_are_one_product(rough: bool, accept: bool) -> None:
    tensors = held()
    recorder = Recorder(tensors)
    with recorder.recording():
        x, at = recorder.input("in_0", (1, 3, WIDE), torch.float32), recorder.input("in_1", (1, 2), torch.int64)
        matrices = {name: [tensors.get(f"{name}_{part}") for part in ("codes", "scale", "least")] for name in WIDTHS}
        results = [torch.ops.dcompile.linear_blocks(x, *matrices[name], bits, rough) for name, bits in WIDTHS.items()]
        results.append(torch.ops.dcompile.embed_blocks(*matrices["head"], 8, at))
        program = program_of(recorder.finish(results))
    given = [torch.randn(1, 3, WIDE), torch.tensor([[6, 0]])]
    want = through("eager")(program.graphs[0].module, given)
    before = text(program)
    packed = run_passes(program, [Stage("inductor", (PackBlocks(),))])
    name = "rough" if rough else "exact"
    check(HERE / "pack-blocks" / f"{name}.txt", f"{before}\n---- pack-blocks\n\n{text(packed)}", accept)
    targets = [node.target for node in packed.graphs[0].module.graph.nodes]
    product, lookup = (LINEAR_ROUGH, EMBED_ROUGH) if rough else (LINEAR_PACKED, EMBED_PACKED)
    assert targets.count(product) == 3, "the first two are one"
    assert targets.count(lookup) == 1
    found = through("eager")(packed.graphs[0].module, given)
    assert all(torch.allclose(a, b, atol=0.2 if rough else 1e-5) for a, b in zip(found, want, strict=True))
    assert torch.allclose(found[-1], want[-1], atol=1e-6), "what is looked up is not rounded"


@pytest.mark.parametrize("mixed", [False, True])
def test_rows_that_hold_nothing_are_not_multiplied(mixed: bool) -> None:
    """Of a prompt's chunk, where nothing but attention reads several rows; all other products are of all rows."""
    matrix = nearest(torch.randn(6, WIDE), "int4-symmetric")
    tensors = {"codes": matrix.codes, "scale": matrix.scale}
    recorder = Recorder(tensors)
    with recorder.recording():
        x, left = recorder.input("in_0", (1, 5, WIDE), torch.float32), recorder.input("in_1", (1,), torch.int64)
        with recorder.tagged(rows="5"):
            live = torch.clamp(left, max=5)
        with recorder.tagged(call="prefill"):
            chunk, row = (torch.ops.dcompile.linear_blocks(y, *tensors.values(), None, 4, False) for y in (x, x[:, :1]))
        whole = torch.ops.dcompile.linear_blocks(x * 2, *tensors.values(), None, 4, False)
        last = torch.matmul(chunk, chunk.transpose(-1, -2)) if mixed else chunk
        program = program_of(recorder.finish([last, row, whole, live]))
    packed = run_passes(program, [Stage("inductor", (PackBlocks(),))])
    found = packed.graphs[0].module.graph.find_nodes(op="call_function", target=LINEAR_PACKED)
    counts = [] if mixed else [torch.ops.aten.clamp.default]
    assert [[n.target for n in arguments(node)[-1]] for node in found] == [counts, [], []]


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["int4", "int4-symmetric", "int8"])
def test_greedy_gives_the_oracles_tokens(bits: str, tmp_path: Path) -> None:
    model = write(tmp_path / "model")
    dcompile.build("greedy", model, tmp_path / "out", "cpu", max_length=64, quantize=bits)
    assert [o.verdict for o in verify(tmp_path / "out", model, PROMPTS, max_new_tokens=16)] == ["same", "same"]
    matrices = [t for t in load_file(tmp_path / "out" / "weights.safetensors").values() if t.dim() > 1]
    assert {t.dtype for t in matrices} <= {torch.int32, torch.int64, torch.bool}, "no matrix in floats"


@pytest.mark.slow
def test_products_may_round_what_they_multiply(tmp_path: Path) -> None:
    """Eight bits turn a near-tie at most; the first tokens of this model are none."""
    model = write(tmp_path / "model")
    options: dict[str, Any] = {"max_length": 64, "quantize": "int4", "rng": False}
    made = dcompile.build("greedy", model, tmp_path / "rough", "cpu", activations="int8", **options)
    assert made.manifest.quantized is not None and made.manifest.quantized.activations == "int8"
    dcompile.build("greedy", model, tmp_path / "exact", "eager", **options)
    rough, exact = (
        dcompile.load(tmp_path / name, 1).generate(PROMPTS[0], max_new_tokens=4, eos_ids=[]).output_ids
        for name in ("rough", "exact")
    )
    assert rough == exact


@pytest.mark.slow
def test_a_masked_model_gives_the_oracles_tokens(tmp_path: Path) -> None:
    dcompile.build("fast_dllm_dual", LLADA, tmp_path / "out", "cpu", max_length=64, rng=False, quantize="int4")
    assert [o.verdict for o in verify(tmp_path / "out", LLADA, PROMPTS, max_new_tokens=16)] == ["same", "same"]
