"""The trained heads of examples/medusa are what the library's strategy takes, and small."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcompile import compiler
from dcompile.dsl.heads import networks
from dcompile.trees import read

HERE = Path(__file__).parents[2] / "examples" / "medusa"
HIDDEN = 576  # of SmolLM2-135M


def test_the_heads_fit_the_model() -> None:
    data = (HERE / "heads.safetensors").read_bytes()
    assert len(data) < 3 << 20
    layers = networks(data, 4)
    assert [(layer.inputs, layer.outputs, layer.bias is not None) for layer in layers] == [(HIDDEN, HIDDEN, True)] * 4


@pytest.mark.parametrize("settings", [{}, {"shape": str(HERE / "small.tree")}])
def test_the_strategy_takes_them(settings: dict[str, str]) -> None:
    strategy = compiler.read("medusa", {"head": str(HERE / "heads.safetensors"), **settings})
    (module,) = strategy.modules
    assert (module.count, len(module.layers)) == (4, 4)


def test_the_tree_is_no_deeper_than_there_are_heads() -> None:
    assert read((HERE / "small.tree").read_text(), "small.tree").depth == 4
