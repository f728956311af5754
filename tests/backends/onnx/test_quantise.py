"""Artifacts with matrices in blocks: the tokens of the oracle on the floats that the codes mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors.torch import load_file

import dcompile
from dcompile.backends import weights
from dcompile.compiler import load
from dcompile.diagnostic import CompileError
from dcompile.verify import verify
from tests.cli.checkpoint import write
from tests.models import test_gguf
from tests.models.checkpoints import make

LLADA = Path(__file__).parents[2] / "conformance" / "models" / "tiny-llada"
PROMPTS = ([5, 9, 17, 23, 8], [40, 41, 42])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("llama"))


def build(strategy: str, model: Path, out: Path, **options: Any) -> Path:
    dcompile.build(strategy, model, out, max_length=64, **options)
    return out


def verdicts(artifact: Path) -> list[str]:
    return [o.verdict for o in verify(artifact, None, PROMPTS, max_new_tokens=16)]


@pytest.mark.parametrize("loop", ["inside", pytest.param("step", marks=pytest.mark.slow)])
@pytest.mark.parametrize("bits", ["int4", "int4-symmetric", "int8"])
def test_greedy_gives_the_oracles_tokens(llama: Path, tmp_path: Path, bits: str, loop: str) -> None:
    artifact = build("greedy", llama, tmp_path / "out", quantize=bits, loop=loop)
    assert verdicts(artifact) == ["same", "same"]


@pytest.mark.parametrize("target", ["onnx", "eager"])
def test_a_masked_model_gives_the_oracles_tokens(tmp_path: Path, target: str) -> None:
    artifact = build("fast_dllm_dual", LLADA, tmp_path / "out", target=target, quantize="int4", rng=False)
    assert verdicts(artifact) == ["same", "same"]


def test_the_model_is_another_than_in_floats(llama: Path, tmp_path: Path) -> None:
    """So that equal tokens above say something."""
    four, plain = (build("greedy", llama, tmp_path / str(bits), quantize=bits) for bits in ("int4", None))
    answers = [dcompile.load(place).generate(PROMPTS[0], max_new_tokens=24, eos_ids=[]) for place in (four, plain)]
    assert answers[0].output_ids != answers[1].output_ids


def products(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from products(attribute.g)


def level(node: Any) -> int:
    return int(next(a.i for a in node.attribute if a.name == "accuracy_level"))


@pytest.mark.parametrize(("activations", "levels"), [("float32", {0}), ("int8", {4})])
def test_layers_that_read_the_same_are_one_product(
    llama: Path, tmp_path: Path, activations: str, levels: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SMALL", 0)  # as if the tiny matrices were large ones
    artifact = build("greedy", llama, tmp_path / "out", quantize="int4", activations=activations, loop="step")
    manifest = dcompile.load(artifact).artifact.manifest
    assert manifest.quantized is not None
    assert manifest.quantized.activations == activations
    step = onnx.load(next(artifact.glob("*_last.onnx")), load_external_data=False)
    found = list(products(step.graph))
    head = 1 if activations == "int8" else 2  # eight bits as two of four
    assert len(found) == 2 * 4 + head  # of each layer: q, k and v; o; gate and up; down
    assert {level(node) for node in found} == levels
    answer = dcompile.load(artifact).generate(PROMPTS[0], max_new_tokens=8, eos_ids=[])
    assert len(answer.output_ids) == 8


def test_the_codes_of_a_file_are_taken_as_they_are(tmp_path: Path) -> None:
    whole = make("llama", tmp_path / "folder", hidden_size=64, intermediate_size=64)
    file = test_gguf.write(tmp_path / "m.gguf", whole, "llama", quantised=GGMLQuantizationType.Q8_0)
    model = load(file)
    artifact = build("greedy", file, tmp_path / "out", quantize="int4", activations="int8")
    stored = load_file(artifact / "weights.safetensors")
    codes = {value.numpy().tobytes() for name, value in stored.items() if name.endswith("_codes")}
    assert codes == {blocks.codes.numpy().tobytes() for blocks in model.blocks.values()}
    assert all(value.dtype != torch.float32 or value.dim() < 2 for value in stored.values())


def test_offsets_of_a_file_are_rounded_away_where_that_is_asked(tmp_path: Path) -> None:
    whole = make("llama", tmp_path / "folder", hidden_size=64, intermediate_size=64)
    file = test_gguf.write(tmp_path / "m.gguf", whole, "llama", quantised=GGMLQuantizationType.Q4_1)
    assert any(blocks.least is not None for blocks in load(file).blocks.values())
    artifact = build("greedy", file, tmp_path / "out", quantize="int4-symmetric")
    assert not any(name.endswith("_least") for name in load_file(artifact / "weights.safetensors"))
    assert [o.verdict for o in verify(artifact, file, PROMPTS, max_new_tokens=16)] == ["same", "same"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int3"}, "--quantize cannot be `int3`"),
        ({"quantize": "int4", "activations": "int4"}, "--activations cannot be `int4`"),
        (
            {"quantize": "int4", "activations": "int8", "target": "tvm", "loop": "step"},
            "target `tvm` multiplies quantised matrices with floats alone",
        ),
        ({"quantize": "int8", "target": "cuda"}, "target `cuda` has no products with matrices in int8"),
        ({"quantize": "bfloat16"}, "target `onnx` has no products with matrices in bfloat16"),
        ({"activations": "int8"}, "matrices in blocks alone"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(CompileError) as caught:
        build("greedy", Path("nowhere"), tmp_path / "out", **options)
    (problem,) = caught.value.diagnostics
    assert problem.code == "unknown-precision"
    assert words in problem.title
    assert problem.help
    assert not (tmp_path / "out").exists()
