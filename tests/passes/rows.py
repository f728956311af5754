"""Tiny models, and rows run by the interpreter or by the oracle, in one shape that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from dcompile.backends.eager.run import interpret
from dcompile.controls import Controls
from dcompile.dsl import load, standard
from dcompile.lower import EOS_SLOTS, lower
from dcompile.model import Facts
from dcompile.models import Model
from dcompile.program import Program
from dcompile.reference import run
from dcompile.source import Source
from dcompile.strategy import Strategy

VOCAB, MASK, EOS = 40, 39, 1
Template = Sequence[int | None]
Attention = Literal["causal", "full", "block_causal"]


@dataclass(frozen=True)
class Row:
    """What a row's run came to: the answer positions and, for each, which call wrote it; calls; positions fed."""

    answer: tuple[int, ...]
    order: tuple[int, ...]
    calls: int
    fed: int


@cache
def model(attention: Attention = "causal", shift: bool = False, seed: int = 7, layers: int = 2) -> Model:
    """Layers of random weights, large enough that logits lie apart."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    backbone, head = LlamaModel(config).eval(), nn.Linear(16, VOCAB, bias=False)
    for weight in [*backbone.parameters(), *head.parameters()]:
        weight.requires_grad_(False)
        if weight.dim() > 1:
            weight.copy_(torch.randn(weight.shape) * 0.5)
    facts = Facts("llama", attention, shift, VOCAB, 16, layers, 4, 2, 4, 64, MASK, (EOS,))
    return Model(facts, backbone, head, Path())


def read(text: str, **settings: Any) -> Strategy:
    """A strategy of the standard library by its name, or from its text; a bare body becomes one for a masked model."""
    if "\n" not in text and " " not in text:
        return load(standard(text), settings)
    if not text.lstrip().startswith("strategy"):
        text = f"strategy s {{\nmodel lm: masked\ncanvas answer = masked(length)\n{text}\n}}\n"
    return load(Source("s.dcs", text), settings)


def fits(strategy: Strategy, shift: bool = False) -> Model:
    """The tiny model of the kind that a strategy asks for."""
    kinds: dict[str, Attention] = {"causal": "causal", "masked": "full", "block_causal": "block_causal"}
    return model(kinds[strategy.models[0].attention], shift)


def lowered(strategy: Strategy, batch: int = 1, capacity: int = 24, shift: bool = False) -> Program:
    """The program of a strategy with its tiny model."""
    return lower(strategy, fits(strategy, shift), batch=batch, capacity=capacity)


def oracle(
    strategy: Strategy,
    prompts: Sequence[Sequence[int]],
    length: int,
    shift: bool = False,
    template: Template = (),
    **controls: Any,
) -> list[Row]:
    """The oracle's rows; row r gets `seed + r`, as a batch does."""
    rows = []
    for r, prompt in enumerate(prompts):
        chosen = Controls(eos_ids=(EOS,), **controls)
        chosen = replace(chosen, seed=chosen.seed + r)
        found = run(strategy, fits(strategy, shift), prompt, length=length, sampling=chosen, template=template)
        order = found.order
        answer = found.tokens[len(prompt) :] if strategy.canvas.init != "empty" else found.output_ids
        rows.append(Row(answer, order[: len(answer)], found.model_calls, found.positions_fed))
    return rows


def compiled(
    program: Program, prompts: Sequence[Sequence[int]], length: int, template: Template = (), **controls: Any
) -> list[Row]:
    """The program's rows, by the interpreter and, where the loop is cut, a driver."""
    given = feed(program, prompts, length, Controls(eos_ids=(EOS,), **controls), template)
    state = drive(program, given)
    return [_row(program, state, r, len(prompt)) for r, prompt in enumerate(prompts)]


def drive(program: Program, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The host's part: run `graphs[next]` until it says -1."""
    state, at = dict(given), 0
    while at != -1:
        graph = program.graphs[at]
        found = interpret(graph.module, *[state[p.name] for p in graph.inputs], check=True)
        state |= dict(zip([p.name for p in graph.outputs], found, strict=True))
        at = int(state["next"]) if program.loop != "inside" else -1
    return state


def feed(
    program: Program, prompts: Sequence[Sequence[int]], length: int, controls: Controls, template: Template = ()
) -> dict[str, Tensor]:
    """The inputs of an entry graph: prompts left-padded to one start, masks or a template behind them."""
    batch, start = program.batch, max(len(p) for p in prompts)
    assert len(prompts) == batch
    tokens = torch.zeros(batch, program.capacity, dtype=torch.int64)
    for r, prompt in enumerate(prompts):
        tokens[r, start - len(prompt) : start] = torch.tensor(prompt)
        if program.strategy.canvas.init == "masked":
            holes = [None] * (_extent(program.strategy, len(prompt), length) - len(template))
            answer = [MASK if token is None else token for token in (*template, *holes)]
            tokens[r, start : start + len(answer)] = torch.tensor(answer)
    banned = torch.zeros(VOCAB, dtype=torch.bool)
    banned[list(controls.banned)] = True
    eos = torch.tensor([*controls.eos_ids, *[-1] * EOS_SLOTS])[:EOS_SLOTS]

    def each(value: float) -> Tensor:
        return torch.full((batch,), value)

    return {
        "tokens": tokens, "pad": torch.tensor([start - len(p) for p in prompts]), "start": each(start),
        "length": each(length), "temperature": each(controls.temperature), "top_k": each(controls.top_k),
        "top_p": each(controls.top_p), "min_p": each(controls.min_p), "penalty": each(controls.repetition_penalty),
        "banned": banned, "min_length": each(controls.min_length), "eos": eos,
        "seed": controls.seed + torch.arange(batch),
    }  # fmt: skip


def _row(program: Program, state: dict[str, Tensor], r: int, prompt: int) -> Row:
    start = int(state["start"][r])
    size = int(state["count"][r])
    if program.strategy.canvas.init != "empty":
        size = _extent(program.strategy, prompt, int(state["length"][r]))
    answer, order = (tuple(state[n][r, start : start + size].tolist()) for n in ("tokens", "order"))
    return Row(answer, order, int(state["calls"][r]), int(state["fed"][r]))


def _extent(strategy: Strategy, prompt: int, length: int) -> int:
    """Answer positions of a canvas that is made longer to whole blocks."""
    canvas = strategy.canvas
    before = prompt if canvas.multiple_from == "canvas" else 0
    return -(-(before + length) // canvas.multiple) * canvas.multiple - before


def changed(program: Program, change: Callable[[Program], Program]) -> Program:
    """A program lowered afresh (passes change graphs in place) and changed."""
    return change(lowered(program.strategy, program.batch, program.capacity, program.facts.shift))
