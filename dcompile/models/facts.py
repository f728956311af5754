"""Facts of a model from its configuration alone: nothing is loaded, torch is not imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcompile.diagnostic import CompileError, error, suggest
from dcompile.model import Facts, Sampling
from dcompile.models.adapters import ADAPTERS, Json, adapter_of
from dcompile.models.gguf import read_header
from dcompile.models.gguf_facts import gguf_facts
from dcompile.models.places import find_checkpoint, fingerprint, read_json, weight_files

# Families checked against `generate` by the tests; others are tried as they come.
KNOWN = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma", "gemma2", "phi3", "olmo2", "granite", "starcoder2")
TIED = ("gemma", "gemma2", "gpt2", "starcoder2")  # families whose class ties embeddings unless told otherwise
HEAD_DIM = {"gemma": 256, "gemma2": 256, "qwen3": 128}  # where the class does not divide hidden by heads
MASKS = ("<|mask|>", "<|mdm_mask|>", "[mask]", "<mask>")


def read_facts(path: str | Path, hashed: bool = True) -> Facts:
    """The facts of the model at `path`; with `hashed` its weights are read once for the fingerprint."""
    place = find_checkpoint(path)
    if place.is_file():
        return gguf_facts(read_header(place), place.name, fingerprint([place]) if hashed else "")
    raw = read_json(place / "config.json", needed=True)
    files = [*weight_files(place), place / "config.json"]
    return checkpoint_facts(place, raw, fingerprint(files) if hashed else "")


def checkpoint_facts(folder: Path, raw: Json, print_: str) -> Facts:
    """The facts that config.json and generation_config.json of a folder state."""
    model_type = str(raw.get("model_type", ""))
    adapter = adapter_of(model_type)
    refusal = adapter.refuse(raw) if adapter else _refusal(raw)
    if refusal:
        raise unsupported(model_type or "(none)", refusal)
    try:
        config = adapter.config(raw) if adapter else dict(raw)
        sizes = _sizes(config, model_type)
    except (KeyError, TypeError, ZeroDivisionError) as problem:
        raise unsupported(model_type or "(none)", f"config.json lacks or misstates {problem}") from problem
    generation = read_json(folder / "generation_config.json")
    return Facts(
        family=model_type,
        attention=adapter.attention if adapter else "causal",
        shift=adapter.shift if adapter else False,
        mask_id=_mask_id(folder, raw),
        eos_ids=_ids(generation.get("eos_token_id", raw.get("eos_token_id"))),
        pad_id=_first(generation.get("pad_token_id", raw.get("pad_token_id"))),
        bos_id=_first(generation.get("bos_token_id", raw.get("bos_token_id"))),
        tied=bool(config.get("tie_word_embeddings", model_type in TIED)),
        fingerprint=print_,
        source=folder.resolve().name,
        sampling=_sampling(generation),
        **sizes,
    )


def unsupported(model_type: str, why: str) -> CompileError:
    """The error of an architecture that cannot be computed, naming the nearest one that can."""
    names = [*KNOWN, *ADAPTERS]
    hint = suggest(model_type.lower(), names, "supported forms")
    return error("unsupported-architecture", f"architecture `{model_type}` is not supported: {why}", hint)


def _refusal(raw: Json) -> str | None:
    if raw.get("is_encoder_decoder"):
        return "it has an encoder"
    if not raw.get("model_type"):
        return "config.json names no model_type"
    return None


def _sizes(config: dict[str, Any], model_type: str) -> dict[str, Any]:
    heads = int(_one_of(config, "num_attention_heads", "n_head"))
    hidden = int(_one_of(config, "hidden_size", "n_embd"))
    longest = int(_one_of(config, "max_position_embeddings", "n_positions"))
    window = config.get("sliding_window")
    if window and config.get("use_sliding_window", True):
        longest = min(longest, int(window))  # up to the window a sliding layer attends to everything
    return {
        "vocab": int(config["vocab_size"]),
        "hidden": hidden,
        "layers": int(_one_of(config, "num_hidden_layers", "n_layer")),
        "heads": heads,
        "kv_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or HEAD_DIM.get(model_type, hidden // heads)),
        "max_positions": longest,
    }


def _one_of(config: dict[str, Any], *names: str) -> Any:
    for name in names:
        if config.get(name) is not None:
            return config[name]
    raise KeyError(names[0])


def _ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (int(value),)


def _first(value: Any) -> int | None:
    ids = _ids(value)
    return ids[0] if ids else None


def _mask_id(folder: Path, raw: Json) -> int | None:
    if raw.get("mask_token_id") is not None:
        return int(raw["mask_token_id"])
    # SDAR states its mask only as an added token of the tokenizer
    for token in read_json(folder / "tokenizer.json").get("added_tokens", []):
        if str(token.get("content", "")).lower() in MASKS:
            return int(token["id"])
    return None


def _sampling(generation: Json) -> Sampling:
    drawn = bool(generation.get("do_sample", False))
    return Sampling(
        temperature=float(generation.get("temperature") or 1.0) if drawn else 0.0,
        top_k=int(generation.get("top_k") or 0),
        top_p=float(generation.get("top_p") or 1.0),
        min_p=float(generation.get("min_p") or 0.0),
        repetition_penalty=float(generation.get("repetition_penalty") or 1.0),
    )
