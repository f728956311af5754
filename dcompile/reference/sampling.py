"""From the logits of one position to a token, in the order of the transformers library."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import Tensor

from dcompile.controls import Controls
from dcompile.ops import FLOOR


def processed(logits: Tensor, controls: Controls, seen: Set[int], committed: int) -> Tensor:
    """Logits [V] after the repetition penalty on the tokens `seen`, bans, and eos before the minimum length."""
    out = logits.clone()
    penalty = controls.repetition_penalty
    if penalty != 1:
        said = out[sorted(seen)]
        out[sorted(seen)] = torch.where(said < 0, said * penalty, said / penalty)
    taken = [*controls.banned, *(controls.eos_ids if committed < controls.min_length else ())]
    if taken:
        out[taken] = FLOOR
    return out


def warped(logits: Tensor, controls: Controls, temperature: float) -> Tensor:
    """Processed logits [V] divided by the temperature, with what top-k, top-p and min-p take out at FLOOR."""
    out = logits / temperature if temperature > 0 else logits.clone()
    if controls.top_k > 0:
        kth = torch.sort(out, descending=True).values[min(controls.top_k, len(out)) - 1]
        out[out < kth] = FLOOR
    if controls.top_p < 1:
        ranked = torch.sort(torch.softmax(out, -1), descending=True, stable=True)
        before = torch.cumsum(ranked.values, -1) - ranked.values
        out[ranked.indices[1:][before[1:] >= controls.top_p]] = FLOOR
    if controls.min_p > 0:
        probs = torch.softmax(out, -1)
        out[probs < controls.min_p * probs.max()] = FLOOR
    return out


def distribution(processed: Tensor, warped: Tensor, cold: bool) -> Tensor:
    """What is drawn from [V]: at temperature 0 the likeliest token for certain."""
    if not cold:
        return torch.softmax(warped, -1)
    return torch.nn.functional.one_hot(processed.argmax(), len(processed)).float()


def draw(logits: Tensor, u: float) -> int:
    """The first token whose cumulative probability exceeds u; never one of probability zero."""
    probs = torch.softmax(logits, -1)
    passed = int((torch.cumsum(probs, -1) <= u).sum())
    return min(passed, int(probs.nonzero().max()))


def draw_gap(logits: Tensor, u: float) -> float:
    """How far u lies from the nearest border between two tokens."""
    return float((torch.cumsum(torch.softmax(logits, -1), -1)[:-1] - u).abs().min())


def top_gap(values: Tensor) -> float:
    """Largest minus second largest of [V]."""
    best = torch.topk(values, 2).values
    return float(best[0] - best[1])
