"""Layers that are left out: the program is the oracle's; a constant depth is a model that lacks these layers."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from torch import nn
from transformers import LlamaModel

from dcompile.controls import Controls
from dcompile.lower import lower
from dcompile.models import Model
from dcompile.passes.facts import attends
from dcompile.passes.pipeline import optimise
from dcompile.passes.select_branches import SelectBranches
from dcompile.program import COND, Program, modules, submodules
from dcompile.reference import run
from dcompile.strategy import Strategy
from tests.passes.rows import EOS, compiled, model, read

LAYERS, LENGTH = 5, 9
PROMPTS = [(12, 13, 14), (5, 6, 5, 6, 5)]


def deep(layers: int = LAYERS) -> Model:
    """Five layers of random weights."""
    return model(seed=3, layers=layers)


def program(depth: str) -> Strategy:
    return read(f"""strategy s {{
  model lm: causal
  state turn: int = 0
  canvas answer = empty(length)
  repeat {{
    p = lm(last) with depth {depth}
    append p.token
    turn = turn + 1
  }} until eos
}}""")


def oracle(strategy: Strategy, model: Model, prompt: tuple[int, ...]) -> tuple[int, ...]:
    return run(strategy, model, prompt, length=LENGTH, sampling=Controls(eos_ids=(EOS,))).output_ids


DEPTHS = {
    "falls": "1 - 0.8 * turn / length",
    "falls by the answer": "1 - 0.7 * count(answer) / length",
    "stays": "0.6",
    "rises, so it stays where it was": "0.4 + 0.1 * turn",
    "would be none": "0.3 - turn",
}


@pytest.mark.parametrize("name", DEPTHS)
def test_a_batch_and_the_oracle_agree(name: str) -> None:
    strategy = program(DEPTHS[name])
    made = lower(strategy, deep(), batch=2, capacity=20)
    got = [row.answer for row in compiled(made, PROMPTS, LENGTH)]
    assert got == [oracle(strategy, deep(), prompt) for prompt in PROMPTS]
    assert got != [oracle(read("greedy"), deep(), prompt) for prompt in PROMPTS]


def test_the_passes_leave_the_tokens() -> None:
    strategy = program(DEPTHS["falls"])
    made = optimise(lower(strategy, deep(), batch=2, capacity=20))
    assert [r.answer for r in compiled(made, PROMPTS, LENGTH)] == [oracle(strategy, deep(), p) for p in PROMPTS]


def test_layers_in_branches_become_selections_where_a_backend_asks() -> None:
    strategy = program(DEPTHS["falls"])
    made = optimise(lower(strategy, deep(), batch=1, capacity=20))
    straight = SelectBranches(attending=True).run(made)
    assert [branches(p) for p in (made, straight)] == [LAYERS - 1, 0]
    assert compiled(straight, PROMPTS[:1], LENGTH)[0].answer == oracle(strategy, deep(), PROMPTS[0])
    plain = lower(read("greedy"), deep(), capacity=20)
    assert SelectBranches(attending=True).run(plain) is plain


def branches(made: Program) -> int:
    """How many branches hold attention."""
    every = (found for g in made.graphs for module in modules(g.module) for found in submodules(module))
    return sum(node.target is COND and attends(inside) for node, _, inside in every)


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_a_constant_depth_is_a_model_without_these_layers(keep: int) -> None:
    """A prompt of one token is not stored by all layers first."""
    whole, left = deep(), deep()
    backbone = LlamaModel(deepcopy(left.backbone.config)).eval()  # type: ignore[arg-type]
    backbone.load_state_dict(left.backbone.state_dict())
    kept = [0, *range(LAYERS - keep + 1, LAYERS)]
    backbone.layers = nn.ModuleList([backbone.layers[i] for i in kept])
    for number, layer in enumerate(backbone.layers):
        layer.self_attn.layer_idx = number
    backbone.config.num_hidden_layers = keep
    small = replace(left, backbone=backbone, facts=replace(left.facts, layers=keep))
    strategy = program(str(keep / LAYERS))
    assert oracle(strategy, whole, (7,)) == oracle(read("greedy"), small, (7,))


def test_all_layers_are_greedy_decoding() -> None:
    strategy = program("1")
    assert [oracle(strategy, deep(), p) for p in PROMPTS] == [oracle(read("greedy"), deep(), p) for p in PROMPTS]
