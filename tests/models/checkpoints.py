"""Tiny checkpoints with random weights, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

COMMON = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "smollm3": {},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 40},
    "phi3": {},
    "olmo2": {},
    "granite": {"logits_scaling": 2.0, "embedding_multiplier": 3.0},
    "starcoder2": {},
    "cohere": {"logit_scale": 0.5},
    "gpt_neox": {"num_key_value_heads": 4},
}


def make(family: str, folder: Path, **changes: Any) -> nn.Module:
    """Save a random model of a family into `folder`; weights are large enough that logits spread."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**COMMON, **FAMILIES.get(family, {}), **changes})
    model: nn.Module = AutoModelForCausalLM.from_config(config).eval().float()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.mul_(4)
    model.save_pretrained(folder)  # type: ignore[operator]
    return model
