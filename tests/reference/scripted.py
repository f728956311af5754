"""A model whose predictions are written down: what it says of a position depends on the position alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dcompile.controls import Controls
from dcompile.dsl import load
from dcompile.model import Facts
from dcompile.models import Model
from dcompile.reference import Forced, Result, run
from dcompile.source import Source

VOCAB, MASK, EOS = 8, 7, 1


class Scripted(nn.Module):
    """Hidden states are the rows of a table [position, V] of logits; keeps what it was fed."""

    def __init__(self, table: Mapping[int, Mapping[int, float]]) -> None:
        super().__init__()
        self.table, self.fed = table, []  # type: ignore[var-annotated]

    def forward(self, input_ids: Tensor, position_ids: Tensor, **rest: Any) -> SimpleNamespace:
        self.fed.append((input_ids[0].tolist(), position_ids[0].tolist()))
        return SimpleNamespace(last_hidden_state=torch.stack([self._row(i) for i in position_ids[0].tolist()])[None])

    def _row(self, position: int) -> Tensor:
        said = self.table.get(position, {0: 1.0})
        rest = (1 - sum(said.values())) / (VOCAB - len(said))
        return torch.tensor([math.log(max(said.get(token, rest), 1e-9)) for token in range(VOCAB)])


def scripted(
    table: Mapping[int, Mapping[int, float]],
    attention: Literal["causal", "full", "block_causal"] = "full",
    shift: bool = False,
) -> Model:
    """A model that gives each position the probabilities of `table` (position -> token -> probability)."""
    facts = Facts("scripted", attention, shift, VOCAB, VOCAB, 0, 1, 1, 1, 64, MASK, (EOS,))
    return Model(facts, Scripted(table), nn.Identity(), Path())


def play(
    text: str,
    model: Model,
    prompt: Sequence[int] = (2, 3),
    length: int = 4,
    forced: Forced | None = None,
    template: Sequence[int | None] = (),
    **controls: Any,
) -> Result:
    """Run the body of a strategy for a masked model (or a whole strategy text) on a prompt."""
    if not text.lstrip().startswith("strategy"):
        text = f"strategy s {{\nmodel lm: masked\ncanvas answer = masked(length)\n{text}\n}}\n"
    return run(
        load(Source("s.dcs", text)),
        model,
        prompt,
        length=length,
        sampling=Controls(eos_ids=(EOS,), **controls),
        forced=forced,
        template=template,
    )


def fed(model: Model) -> list[list[int]]:
    """The positions of each forward so far."""
    assert isinstance(model.backbone, Scripted)
    return [positions for _, positions in model.backbone.fed]
