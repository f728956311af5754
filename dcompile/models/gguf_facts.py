"""GGUF metadata in the words of a checkpoint's config.json, and the facts that follow."""

from __future__ import annotations

from typing import Any

from dcompile.diagnostic import CompileError, error, suggest
from dcompile.model import Facts
from dcompile.models.gguf import Header

FAMILIES = ("llama", "qwen2", "qwen3")
EOS_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def gguf_config(header: Header) -> dict[str, Any]:
    """The configuration of the transformers class for a GGUF file. Raises CompileError `unsupported-architecture`."""
    meta, family = header.meta, str(header.meta.get("general.architecture", "(none)"))
    if family not in FAMILIES:
        raise _unsupported(family, "no table of its weight names")
    if "rope_freqs.weight" in header.tensors or meta.get(f"{family}.rope.scaling.type", "none") != "none":
        raise _unsupported(family, "its rotary positions are scaled")

    def take(name: str) -> Any:
        if f"{family}.{name}" not in meta:
            raise error("unreadable-checkpoint", f"`{header.path}` lacks `{family}.{name}`")
        return meta[f"{family}.{name}"]

    heads, hidden = int(take("attention.head_count")), int(take("embedding_length"))
    return {
        "model_type": family,
        "vocab_size": _embedding(header)[0],
        "hidden_size": hidden,
        "intermediate_size": int(take("feed_forward_length")),
        "num_hidden_layers": int(take("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(meta.get(f"{family}.attention.head_count_kv", heads)),
        "head_dim": int(meta.get(f"{family}.attention.key_length", hidden // heads)),
        "max_position_embeddings": int(take("context_length")),
        "rms_norm_eps": float(take("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(meta.get(f"{family}.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }


def gguf_facts(header: Header, name: str, fingerprint: str) -> Facts:
    """The facts of a GGUF file; every end token that its tokenizer names ends a row."""
    config, meta = gguf_config(header), header.meta
    return Facts(
        family=config["model_type"],
        attention="causal",
        shift=False,
        vocab=config["vocab_size"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        max_positions=config["max_position_embeddings"],
        mask_id=meta.get("tokenizer.ggml.mask_token_id"),
        eos_ids=tuple(dict.fromkeys(int(meta[key]) for key in EOS_KEYS if key in meta)),
        pad_id=meta.get("tokenizer.ggml.padding_token_id"),
        bos_id=meta.get("tokenizer.ggml.bos_token_id"),
        tied=config["tie_word_embeddings"],
        fingerprint=fingerprint,
        source=name,
    )


def _embedding(header: Header) -> tuple[int, ...]:
    if "token_embd.weight" not in header.tensors:
        raise error("unreadable-checkpoint", f"`{header.path}` has no tensor `token_embd.weight`")
    return header.tensors["token_embd.weight"].shape


def _unsupported(family: str, why: str) -> CompileError:
    hint = suggest(family, FAMILIES, "GGUF architectures")
    return error("unsupported-architecture", f"GGUF architecture `{family}` is not supported: {why}", hint)
