"""What differs between checkpoint formats: the stock class that computes a family, its facts, its names.

LLaDA (ML-GSAI), Dream (HKUNLP), SDAR (JetAstra) and Fast-dLLM v2 (NVlabs) publish modelling code of their own. With an
explicit mask the stock Llama, Qwen2 and Qwen3 classes compute the same logits, so no published code is ever run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Json = Mapping[str, Any]

LLADA_PARTS = {
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
LLADA_ENDS = {
    "model.transformer.wte.weight": "model.embed_tokens.weight",
    "model.transformer.ln_f.weight": "model.norm.weight",
    "model.transformer.ff_out.weight": "lm_head.weight",
}
LLADA_FIXED = {"alibi": False, "rope": True, "layer_norm_type": "rms", "activation_type": "silu", "include_bias": False}
OWN_KEYS = ("architectures", "auto_map", "model_type", "mask_token_id", "bd_size", "fuse_cross_entropy")


def _same(name: str) -> str:
    return name


def _llada_name(name: str) -> str:
    found = re.fullmatch(r"model\.transformer\.blocks\.(\d+)\.(\w+)\.(weight|bias)", name)
    if found and found[2] in LLADA_PARTS:
        return f"model.layers.{found[1]}.{LLADA_PARTS[found[2]]}.{found[3]}"
    return LLADA_ENDS.get(name, name)


def _stock_config(raw: Json) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in OWN_KEYS}


def _llada_config(raw: Json) -> dict[str, Any]:
    heads = raw["n_heads"]
    return {
        "hidden_size": raw["d_model"],
        "num_hidden_layers": raw["n_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": raw.get("n_kv_heads") or heads,
        "head_dim": raw["d_model"] // heads,
        "intermediate_size": raw.get("mlp_hidden_size") or raw["d_model"] * raw["mlp_ratio"],
        "rms_norm_eps": raw.get("rms_norm_eps", 1e-5),
        "rope_theta": raw.get("rope_theta", 10000.0),
        "vocab_size": raw.get("embedding_size") or raw["vocab_size"],
        "max_position_embeddings": raw["max_sequence_length"],
        "attention_bias": bool(raw.get("include_qkv_bias")),
        "tie_word_embeddings": bool(raw.get("weight_tying", False)),
        "bos_token_id": raw.get("bos_token_id"),
        "eos_token_id": raw.get("eos_token_id"),
        "pad_token_id": raw.get("pad_token_id"),
    }


def _llada_refusal(raw: Json) -> str | None:
    for key, value in LLADA_FIXED.items():
        if raw.get(key, value) != value:
            return f"`{key}` is {raw[key]!r}, and the Llama class computes only {value!r}"
    return None


def _diffusion_gemma_config(raw: Json) -> dict[str, Any]:
    return {**raw["text_config"], "tie_word_embeddings": True}


def _xlnet_config(raw: Json) -> dict[str, Any]:
    sizes = {"hidden_size": raw["d_model"], "num_hidden_layers": raw["n_layer"], "num_attention_heads": raw["n_head"]}
    known = {"head_dim": raw.get("d_head"), "tie_word_embeddings": raw.get("tie_word_embeddings", True)}
    return {**raw, **sizes, **known, "max_position_embeddings": 512}  # the length that it was trained on; it has no limit


@dataclass(frozen=True)
class Adapter:
    """One checkpoint format. `family` is the transformers model type of the class that computes it; `config` gives
    that class's configuration, `rename` a weight's stock name, `refuse` says why a configuration cannot be computed."""

    family: str
    attention: Literal["causal", "full", "block_causal", "canvas", "permutation"]
    shift: bool = False
    config: Callable[[Json], dict[str, Any]] = _stock_config
    rename: Callable[[str], str] = _same
    refuse: Callable[[Json], str | None] = lambda raw: None

    @property
    def is_stock(self) -> bool:
        """Whether the transformers library has a class for the format itself."""
        return self.attention in ("canvas", "permutation")


ADAPTERS = {
    "llada": Adapter("llama", "full", config=_llada_config, rename=_llada_name, refuse=_llada_refusal),
    "dream": Adapter("qwen2", "full", shift=True),
    "sdar": Adapter("qwen3", "block_causal"),
    "diffusion_gemma": Adapter("diffusion_gemma", "canvas", config=_diffusion_gemma_config),
    "xlnet": Adapter("xlnet", "permutation", config=_xlnet_config),
    "fast_dllm_qwen": Adapter("qwen2", "block_causal", shift=True),
}


def adapter_of(model_type: str) -> Adapter | None:
    """The adapter of a format that transformers has no class for; None for every stock family."""
    return ADAPTERS.get(model_type.lower())
