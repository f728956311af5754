"""The list-task model: LLaDA's checkpoint format on disk, the stock `LlamaForCausalLM` in memory.

LLaDA (ML-GSAI/LLaDA) is a Llama block stack with full attention. Fed with an additive attention mask of zeros the
stock class computes the same logits, so only weight names and configuration keys differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from list_tokenizer import EOS, MASK, build_tokenizer
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

CHECKPOINT = Path(__file__).parent / "checkpoint"
ANSWER_LENGTH = 24
LLADA_TO_LLAMA = {
    "attn_norm": "input_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_norm": "post_attention_layernorm",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}
OUTER_NAMES = {
    "model.transformer.wte.weight": "model.embed_tokens.weight",
    "model.transformer.ln_f.weight": "model.norm.weight",
    "model.transformer.ff_out.weight": "lm_head.weight",
}
LLADA_CONSTANTS: dict[str, Any] = {
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "embedding_dropout": 0.0,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "cpu",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "model_type": "llada",
    "multi_query_attention": None,
    "precision": "fp32",
    "residual_dropout": 0.0,
    "rope": True,
    "rope_full_precision": True,
    "scale_logits": False,
    "torch_dtype": "float16",
    "use_cache": False,
}


def llama_config(width: int, layers: int, heads: int, mlp: int, theta: float, vocab: int) -> LlamaConfig:
    """Describe the network to the stock class."""
    return LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=mlp,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        max_position_embeddings=256,
        vocab_size=vocab,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )


def full_attention(inputs: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Return the additive mask that shows every position to every position, except padding behind a row's end."""
    mask = torch.zeros(len(inputs), 1, inputs.shape[1], inputs.shape[1])
    for row, length in enumerate(lengths):
        mask[row, :, :, length:] = torch.finfo(mask.dtype).min
    return mask


def _llama_name(name: str) -> str:
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, _, _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LLADA_TO_LLAMA[part]}.weight"


def save_checkpoint(model: LlamaForCausalLM, folder: Path = CHECKPOINT) -> None:
    """Write the model in LLaDA's format: fp16 weights under LLaDA's names, its configuration, the tokenizer."""
    c = model.config
    sizes = {
        "d_model": c.hidden_size,
        "n_layers": c.num_hidden_layers,
        "n_heads": c.num_attention_heads,
        "n_kv_heads": c.num_key_value_heads,
        "mlp_hidden_size": c.intermediate_size,
        "mlp_ratio": round(c.intermediate_size / c.hidden_size),
        "rms_norm_eps": c.rms_norm_eps,
        "rope_theta": dict(c.rope_parameters or {})["rope_theta"],
        "vocab_size": c.vocab_size,
        "embedding_size": c.vocab_size,
        "max_sequence_length": c.max_position_embeddings,
        "train_max_sequence_length": c.max_position_embeddings,
        "weight_tying": False,
    }
    ids = {"mask_token_id": MASK, "eos_token_id": EOS, "pad_token_id": EOS}
    build_tokenizer().save_pretrained(folder)
    config = dict(sorted({**LLADA_CONSTANTS, **sizes, **ids}.items()))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": EOS, "pad_token_id": EOS}, indent=1) + "\n"
    )
    state = model.state_dict()
    outer = [*OUTER_NAMES]
    blocks = [
        f"model.transformer.blocks.{i}.{part}.weight" for i in range(c.num_hidden_layers) for part in LLADA_TO_LLAMA
    ]
    weights = {name: state[_llama_name(name)].to(torch.float16).contiguous() for name in outer + blocks}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load_checkpoint(folder: Path = CHECKPOINT) -> LlamaForCausalLM:
    """Load a LLaDA-format folder into the stock class, computing in fp32."""
    c = json.loads((folder / "config.json").read_text())
    model = LlamaForCausalLM(
        llama_config(c["d_model"], c["n_layers"], c["n_heads"], c["mlp_hidden_size"], c["rope_theta"], c["vocab_size"])
    )
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({_llama_name(name): value.float() for name, value in weights.items()})
    model.requires_grad_(False)
    return model
