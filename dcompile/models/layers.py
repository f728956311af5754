"""Models whose layers can be taken apart: norm, attention, norm, feed-forward, each added to what came in."""

from __future__ import annotations

from torch import nn

KNOWN = ("Llama", "Mistral", "Qwen2", "Qwen3")


def is_plain(backbone: nn.Module) -> bool:
    """Whether a backbone is made of such layers, one cosine and sine for all of them."""
    return type(backbone).__name__ in {f"{name}Model" for name in KNOWN}
