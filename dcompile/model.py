"""What a strategy may ask of a model: its facts, its modules, its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Sampling:
    """Run-time controls of sampling; the defaults come from the checkpoint's generation_config."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Facts:
    """Facts of a model that a strategy, a lowering or an artifact depends on; written into the manifest as they are."""

    family: str
    attention: Literal["causal", "full", "block_causal", "canvas", "permutation"]
    shift: bool
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    mask_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None = None
    bos_id: int | None = None
    tied: bool = False
    fingerprint: str = ""
    source: str = ""
    sampling: Sampling = field(default_factory=Sampling)
