"""The trained heads of examples/medusa are what the library's strategy takes, and small."""

from __future__ import annotations

import pytest
import torch

from dcompile import compiler
from dcompile.dsl.heads import networks
from dcompile.trees import read
from tests.examples.scripts import EXAMPLES, HIDDEN, script

HERE = EXAMPLES / "medusa"


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


def test_what_a_head_learns() -> None:
    """Of each token but the last: what it was read off, and the tokens behind the next one."""
    train = script("medusa/train")
    hidden = torch.arange(12.0).reshape(6, 2)
    found = train.samples_of(train.Answer([9, 9], [1, 2, 3, 4, 5, 6], hidden))
    assert found.hidden.tolist() == hidden[:5].tolist()
    assert found.later.tolist() == [[2, 3, 4, 5], [3, 4, 5, 6], [4, 5, 6, -1], [5, 6, -1, -1], [6, -1, -1, -1]]
