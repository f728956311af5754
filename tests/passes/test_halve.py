"""Linear layers in bfloat16: which, and what they give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, fx, nn

import dcompile
from dcompile.passes.halve import Halve
from dcompile.record import Recorder
from tests.backends.harness import program_of, through
from tests.cli.checkpoint import write

VOCAB, WIDE, DEEP = 12, 8, 5


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(WIDE, DEEP), nn.Linear(DEEP, VOCAB, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x))  # type: ignore[no-any-return]


def traced(layers: Layers) -> fx.GraphModule:
    """The layers as a Program's graph has them."""
    recorder = Recorder(dict(layers.named_parameters()))
    with recorder.recording(), torch.no_grad():
        return recorder.finish([layers(recorder.input("in_0", (3, WIDE), torch.float32))])


def test_all_but_the_head_is_multiplied_in_bfloat16() -> None:
    torch.manual_seed(0)
    layers, x = Layers(), torch.randn(3, WIDE)
    program = Halve(frozenset({VOCAB})).run(program_of(traced(layers)))
    (found,) = through("eager")(program.graphs[0].module, [x])
    halves = layers.inner.weight.bfloat16()
    want = layers.head(nn.functional.linear(x.bfloat16(), halves).float() + layers.inner.bias)
    assert torch.equal(found, want) and not torch.equal(found, layers(x))


@pytest.mark.parametrize("target", ["eager", pytest.param("cpu", marks=pytest.mark.slow)])
def test_an_artifact_holds_half_of_its_layers(target: str, tmp_path: Path) -> None:
    model = write(tmp_path / "model")
    artifact = dcompile.build("greedy", model, tmp_path / "out", target, max_length=64, rng=False, quantize="bfloat16")
    assert artifact.manifest.quantized is not None and artifact.manifest.quantized.weights == "bfloat16"
    held = load_file(tmp_path / "out" / "weights.safetensors").values()
    matrices = {t.dtype: sum(u.numel() for u in held if u.dtype == t.dtype and u.dim() == 2) for t in held}
    assert matrices == {torch.bfloat16: 2 * (3 * 32 * 64 + 32 * 32 * 3), torch.float32: 260 * 32}
    dcompile.build("greedy", model, tmp_path / "plain", "eager", max_length=64, rng=False, quantize="bfloat16")
    answers = [
        dcompile.load(place).generate([5, 6, 7], max_new_tokens=24, eos_ids=[]).output_ids
        for place in (tmp_path / "out", tmp_path / "plain")
    ]
    assert answers[0] == answers[1]
