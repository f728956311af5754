"""The weights of a GGUF file as float32 tensors under the stock names."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from dcompile.diagnostic import error
from dcompile.models.blocks import Blocks, floats_of_gguf, of_gguf, select
from dcompile.models.gguf import Header, Stored

PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def stock_name(name: str) -> str:
    """`blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`; an unknown name stays as it is."""
    if found := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        return f"model.layers.{found[1]}.{PARTS[found[2]]}.{found[3]}" if found[2] in PARTS else name
    stem, _, end = name.rpartition(".")
    return f"{ENDS[stem]}.{end}" if stem in ENDS else name


def read_weights(header: Header, heads: int, kv_heads: int) -> dict[str, Tensor]:
    """Every tensor, dequantised to float32. llama.cpp interleaves the rotary halves of q and k in the llama family
    alone; they are put back into the order of the stock class."""
    data = np.memmap(header.path, mode="r", dtype=np.uint8)
    weights = {}
    for name, stored in header.tensors.items():
        value = floats_of_gguf(_raw(stored, data), stored.kind, stored.shape)
        if value is None:
            value = torch.from_numpy(_dequantised(header, name, stored, data))
        if header.meta["general.architecture"] == "llama" and (".attn_q." in name or ".attn_k." in name):
            value = _halves(value, heads if ".attn_q." in name else kv_heads)
        weights[stock_name(name)] = value
    return weights


def read_blocks(header: Header, heads: int, kv_heads: int) -> dict[str, Blocks]:
    """The matrices that the file holds in blocks of 32, code for code."""
    data = np.memmap(header.path, mode="r", dtype=np.uint8)
    found = {}
    for name, stored in header.tensors.items():
        blocks = of_gguf(_raw(stored, data), stored.kind, stored.shape)
        if blocks is None:
            continue
        if header.meta["general.architecture"] == "llama" and (".attn_q." in name or ".attn_k." in name):
            rows = torch.arange(stored.shape[0])
            blocks = select(blocks, _halves(rows, heads if ".attn_q." in name else kv_heads))
        found[stock_name(name)] = blocks
    return found


def _raw(stored: Stored, data: np.ndarray) -> np.ndarray:
    """The bytes of a tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    size, bytes_ = GGML_QUANT_SIZES[GGMLQuantizationType(stored.kind)]
    return data[stored.offset : stored.offset + int(np.prod(stored.shape)) // size * bytes_]


def _dequantised(header: Header, name: str, stored: Stored, data: np.ndarray) -> np.ndarray:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quant_shape_to_byte_shape

    try:
        kind = GGMLQuantizationType(stored.kind)
        packed = _raw(stored, data).reshape(quant_shape_to_byte_shape(stored.shape, kind))
        return np.array(dequantize(packed, kind).reshape(stored.shape), dtype=np.float32)
    except (ValueError, NotImplementedError, KeyError) as problem:
        raise error("unreadable-checkpoint", f"`{header.path}`: tensor `{name}` cannot be read: {problem}") from problem


def _halves(value: Tensor, heads: int) -> Tensor:
    rest = value.shape[1:]
    pairs = value.reshape(heads, value.shape[0] // heads // 2, 2, *rest)
    return pairs.transpose(1, 2).reshape(value.shape)
