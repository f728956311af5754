"""Scores are computed where they are asked for: on a block's slots, although the call fed the whole canvas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcompile.compiler import Order, Watch, backend_for, compile, load, read
from dcompile.program import Program, modules
from tests.backends.library import LIBRARY

MODELS = Path(__file__).parents[1] / "conformance" / "models"
CAPACITY, BLOCK = 64, 8


def scored(program: Program, vocab: int) -> set[int]:
    """For how many slots the head of the language model is computed, in each place that does."""
    heads = torch.ops.aten.linear.default
    return {
        node.meta["val"].shape[:-1].numel()
        for graph in program.graphs
        for module in modules(graph.module)
        for node in module.graph.find_nodes(op="call_function", target=heads)
        if node.meta["val"].shape[-1] == vocab
    }


@pytest.mark.parametrize("strategy", ["fast_dllm_dual", "local_leap", "klass", "hierarchy"])
def test_the_head_runs_for_the_block_alone(strategy: str) -> None:
    model = load(MODELS / LIBRARY[strategy][0])
    order = Order("onnx", max_length=CAPACITY, rng=False)
    checked = read(strategy, {"block": BLOCK})
    program = compile(checked, model, order, backend_for(order), Watch())
    assert scored(program, model.facts.vocab) == {BLOCK}
