"""A masked model of SmolLM2-135M's size with full attention, planted so that thresholds fire.

The model is random: attention and feed-forward weights are large enough that positions differ, and the output head is
scaled until two to four of 32 masked tokens reach a confidence of 0.9 in a call.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1] / "list_tasks"))
from list_tokenizer import MASK
from llada_model import save_checkpoint

__all__ = ["CALM", "MASK", "PLANTED", "SIZES", "planted", "random_model"]

SIZES = {
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "intermediate_size": 1536, "vocab_size": 49152, "rms_norm_eps": 1e-5, "max_position_embeddings": 1024,
    "tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}  # fmt: skip
PLANTED = {"lm_head": 18, "q_proj": 4, "k_proj": 4, "": 2}  # factors of weights, by the first name that fits
CALM = {"lm_head": 100, "": 1}  # distributions that come to rest, as KLASS asks besides


def planted(folder: Path, factors: dict[str, int] = PLANTED) -> Path:
    """The checkpoint with weights times these factors, written once."""
    if not (folder / "config.json").exists():
        save_checkpoint(random_model(factors), folder)
    return folder


def random_model(factors: dict[str, int] = PLANTED) -> LlamaForCausalLM:
    """The model itself, its weights as float16 has them."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            weight.data.mul_(next(factor for part, factor in factors.items() if part in name))
        weight.data = weight.data.half().float()
    return model
