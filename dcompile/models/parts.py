"""The part of a model that a module belongs to, by its name; for whoever wants to know where time goes."""

from __future__ import annotations

PARTS = ("embeddings", "attention", "feed-forward", "layers", "head")  # layers: what stands between the others

WORDS = {
    "input_layernorm": "attention",
    "post_attention_layernorm": "feed-forward",
    "feedforward": "feed-forward",
    "feed_forward": "feed-forward",
    "mlp": "feed-forward",
    "ffn": "feed-forward",
    "moe": "feed-forward",
    "attn": "attention",
    "attention": "attention",
    "rotary": "attention",
    "embed": "embeddings",
    "wte": "embeddings",
}


def part_of(name: str) -> str | None:
    """The part of the module with this dotted name in a backbone, None for one that holds several."""
    for step in name.split("."):
        for word, part in WORDS.items():
            if word in step:
                return part
    return "head" if name in ("norm", "final_layernorm", "ln_f") else None
