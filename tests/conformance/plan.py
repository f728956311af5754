"""What a plan is, and what all families of methods need to make one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
STANDARD = HERE.parents[1] / "dsl" / "std"
CACHES = {"generate": "none", "generate_with_prefix_cache": "prefix", "generate_with_dual_cache": "dual"}


class NotCovered(Exception):
    """The language has no words for these parameters."""


@dataclass(frozen=True)
class Plan:
    """A strategy file, its settings, how many tokens are asked for, and the options of the run.

    `lengths` gives that number from the prompt's length instead, where the published function's depends on it.
    `returned`: what of the answer is compared: its whole canvas, what is `decoded` (the published function fills what
    it never decoded, or leaves it out), or that up to the `end` token as well."""

    file: Path
    settings: Mapping[str, Any]
    length: int
    options: Mapping[str, Any] = field(default_factory=dict)
    lengths: Callable[[int], int] | None = None
    returned: Literal["canvas", "decoded", "end"] = "canvas"

    def asked(self, prompt: int) -> int:
        """The answer length to ask for behind a prompt of so many tokens."""
        return self.length if self.lengths is None else self.lengths(prompt)


def standard(name: str) -> Path:
    """A file of the standard library."""
    return STANDARD / f"{name}.dcs"


def own(name: str) -> Path:
    """A file that is here for the traces alone: an older release, a slip of the published code."""
    return HERE / "strategies" / f"{name}.dcs"


def warps(params: Mapping[str, Any]) -> dict[str, Any]:
    """The run's options of a method that draws from a truncated distribution."""
    return {"top_k": params.get("top_k") or 0, "top_p": params.get("top_p") or 1.0, "eos_ids": ()}
