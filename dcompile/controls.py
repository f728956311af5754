"""Run-time controls of a row's sampling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Controls:
    """What the caller may choose at run time."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    banned: tuple[int, ...] = ()
    min_length: int = 0
    eos_ids: tuple[int, ...] = ()
    seed: int = 0
