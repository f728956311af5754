"""A loaded model: its facts, its two modules, its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dcompile.model import Facts
from dcompile.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn

    from dcompile.models.blocks import Blocks


@dataclass(frozen=True)
class Model:
    """`backbone` is a transformers base model (eval, float32): ids to hidden states [B, W, E]; `head` maps hidden
    [.., E] to logits [.., V], soft-cap included. `files` are what an artifact copies to speak text; may be empty. `blocks`: the matrices that are
    known in blocks as well, by the address of the float weight."""

    facts: Facts
    backbone: nn.Module
    head: nn.Module
    folder: Path
    files: tuple[Path, ...] = ()
    blocks: Mapping[int, Blocks] = field(default_factory=dict, compare=False)


def by_name(strategy: Strategy, models: Model | Mapping[str, Model]) -> dict[str, Model]:
    """The models of a strategy by their names; one alone is the first's."""
    if isinstance(models, Model):
        models = {strategy.models[0].name: models}
    return {use.name: models[use.name] for use in strategy.models}
