"""What a plan is, and what all families of methods need to make one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcompile.reference.row import Draws

HERE = Path(__file__).parent
STANDARD = HERE.parents[1] / "dsl" / "std"
CACHES = {"generate": "none", "generate_with_prefix_cache": "prefix", "generate_with_dual_cache": "dual"}


class NotCovered(Exception):
    """The language has no words for these parameters."""


@dataclass(frozen=True)
class Plan:
    """A strategy file, its settings, how many tokens are asked for, and the options of the run.

    `blocks`: ask for as many tokens as fill whole blocks, where the published function counts those. `returned`:
    compare what a caller gets, not the whole canvas: nothing behind the end token, nor what no call wrote. `draws`: for
    each prompt the random tokens of its recording, by stream, position and visit."""

    file: Path
    settings: Mapping[str, Any]
    length: int
    options: Mapping[str, Any] = field(default_factory=dict)
    blocks: int = 0
    returned: bool = False
    draws: Mapping[tuple[int, ...], Draws] = field(default_factory=dict)

    def asked(self, prompt: int) -> int:
        """The answer length to ask for behind a prompt of so many tokens. With `blocks` of that size: the rest of the
        prompt's last block, those of `length`, and one token more, which the last call predicts."""
        size = self.blocks
        return (prompt // size + self.length // size) * size + 1 - prompt if size else self.length


def standard(name: str) -> Path:
    """A file of the standard library."""
    return STANDARD / f"{name}.dcs"


def filter_file(name: str) -> str:
    """The weights of a filter of Learn2PD; they lie with the models."""
    return str(HERE / "models" / name / "model.safetensors")


def own(name: str) -> Path:
    """A file that is here for the traces alone: an older release, a slip of the published code."""
    return HERE / "strategies" / f"{name}.dcs"


def warps(params: Mapping[str, Any]) -> dict[str, Any]:
    """The run's options of a method that draws from a truncated distribution."""
    return {"top_k": params.get("top_k") or 0, "top_p": params.get("top_p") or 1.0, "eos_ids": ()}
