"""What a run of the oracle tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

NEAR_TIE = 1e-4


@dataclass(frozen=True)
class Forced:
    """Another engine's commits, to be followed: for each answer position its token and the number of the call that
    wrote it last (0: none). Strategies that write a position twice cannot be followed."""

    tokens: Sequence[int]
    order: Sequence[int]


@dataclass(frozen=True)
class Difference:
    """A commit in which the oracle would have done otherwise than the engine it follows. Positions are canvas indices;
    `gap` is the smallest decision gap of that call."""

    call: int
    own: tuple[tuple[int, int], ...]
    other: tuple[tuple[int, int], ...]
    gap: float

    @property
    def near_tie(self) -> bool:
        """Whether rounding alone can have made it."""
        return self.gap < NEAR_TIE


@dataclass(frozen=True, eq=False)
class Judged:
    """What an accept kept: the nodes of the draft below its root. Where a model drew them, p and q [V]: what the target
    and the drafter said at the root."""

    draft: str
    kept: frozenset[int]
    p: Tensor | None = None
    q: Tensor | None = None


@dataclass(frozen=True)
class Result:
    """One row. `tokens` is the whole canvas, prompt first; `output_ids` the answer as a user gets it. `order` holds for
    each answer position the number of the call that wrote it last, from 1 (0: never); `committed_per_call` counts them.
    `gaps` holds for each call the smallest distance by which a decision behind it was made: top-2 probabilities of a
    committed token, neighbours in a rank that was cut, a number against its bound. `session`: its last states.
    `judged`: every accept."""

    output_ids: tuple[int, ...]
    tokens: tuple[int, ...]
    model_calls: int
    positions_fed: int
    order: tuple[int, ...]
    committed_per_call: tuple[int, ...]
    masks_left: int
    finish_reason: Literal["eos", "length", "stop"]
    gaps: tuple[float, ...]
    differences: tuple[Difference, ...] = ()
    session: Mapping[str, Tensor] = field(default_factory=dict)
    judged: tuple[Judged, ...] = field(default=(), compare=False)
