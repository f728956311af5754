"""Operations of a Program that ATen has no safe name for: their eager meaning, and their shapes.

Backends either emit them directly or expand them (`passes/expand.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

FLOOR = -3.0e38  # the finite minimum used in masks: fully masked rows give a uniform softmax, never NaN


@torch.library.custom_op("dcompile::attend", mutates_args=())
def attend(q: Tensor, k: Sequence[Tensor], v: Sequence[Tensor], bias: Sequence[Tensor], scale: float) -> Tensor:
    """Attention over keys and values that lie in several parts, as if they were one.

    q [B, H, W, D]; part i: k[i], v[i] [B, G, N_i, D] with H a multiple of G, bias[i] [B, 1, W, N_i] float32, 0 where
    attended and FLOOR where not. Returns [B, H, W, D]. The parts' *scores* are joined, never their keys or values.
    """
    return attend_parts(q, k, v, bias, scale)


def attend_parts(q: Tensor, k: Sequence[Tensor], v: Sequence[Tensor], bias: Sequence[Tensor], scale: float) -> Tensor:
    """`attend` spelled in ATen ops: heads that share keys are folded into rows, so nothing is repeated."""
    batch, heads, width, dim = q.shape
    groups = k[0].shape[1]
    rows = (q * scale).reshape(batch, groups, heads // groups * width, dim)
    scores = [torch.matmul(rows, part.transpose(-1, -2)) for part in k]
    sizes = [part.shape[2] for part in k]
    split = [s.reshape(batch, heads, width, n) + b for s, n, b in zip(scores, sizes, bias, strict=True)]
    joined = torch.cat(split, dim=-1) if len(split) > 1 else split[0]
    weights = torch.softmax(joined, dim=-1).reshape(batch, groups, heads // groups * width, sum(sizes))
    out, at = None, 0
    for size, part in zip(sizes, v, strict=True):
        piece = weights[..., at : at + size] if len(v) > 1 else weights
        term = torch.matmul(piece, part)
        out, at = term if out is None else out + term, at + size
    assert out is not None
    return out.reshape(batch, heads, width, dim)


@attend.register_fake
def _(q: Tensor, k: Sequence[Tensor], v: Sequence[Tensor], bias: Sequence[Tensor], scale: float) -> Tensor:
    return q.new_empty(q.shape)


@torch.library.custom_op("dcompile::order", mutates_args=())
def order(key: Tensor) -> Tensor:
    """Indices that sort `key` (float32 [B, N]) descending along the last axis; ties go to the lowest index. int64."""
    return torch.sort(key, dim=-1, descending=True, stable=True).indices


@order.register_fake
def _(key: Tensor) -> Tensor:
    return torch.empty_like(key, dtype=torch.int64)


@torch.library.custom_op("dcompile::exp_sums", mutates_args=())
def exp_sums(x: Tensor, weighed: bool) -> Tensor:
    """What a softmax over the last axis is made of: with d = x - max(x), sum(exp(d)) and, if `weighed`, sum(d exp(d)).

    x float32 [..., V]; returns [..., 1 or 2]. Backends fold the axis without writing exp(d) down.
    """
    return exp_sums_plainly(x, weighed)


def exp_sums_plainly(x: Tensor, weighed: bool) -> Tensor:
    """`exp_sums` spelled in ATen ops."""
    shifted = x - torch.amax(x, -1, keepdim=True)
    powers = torch.exp(shifted)
    total = powers.sum(-1, keepdim=True)
    return torch.cat([total, (powers * shifted).sum(-1, keepdim=True)], -1) if weighed else total


@exp_sums.register_fake
def _(x: Tensor, weighed: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], 2 if weighed else 1))


@torch.library.custom_op("dcompile::best_two", mutates_args=())
def best_two(x: Tensor) -> Tensor:
    """The two largest values along the last axis, in order: [..., V] to [..., 2]. One that occurs twice counts."""
    return best_two_plainly(x)


def best_two_plainly(x: Tensor) -> Tensor:
    """`best_two` spelled in ATen ops that every backend has."""
    best = torch.argmax(x, -1, keepdim=True)
    rest = torch.where(torch.arange(x.shape[-1]) == best, FLOOR, x)
    return torch.cat([torch.amax(x, -1, keepdim=True), torch.amax(rest, -1, keepdim=True)], -1)


@best_two.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], 2))


@torch.library.custom_op("dcompile::best", mutates_args=())
def best(x: Tensor, count: int) -> Tensor:
    """The places of the `count` largest values along the last axis, in order, of equal ones the lowest: float32
    [..., V] to int64 [..., count]."""
    return torch.sort(x, dim=-1, descending=True, stable=True).indices[..., :count].clone()


def best_plainly(x: Tensor, count: int) -> Tensor:
    """`best` spelled in ATen ops that every backend has."""
    found, left = [torch.argmax(x, -1, keepdim=True)], x
    while len(found) < count:
        left = torch.where(torch.arange(x.shape[-1]) == found[-1], -torch.inf, left)
        found.append(torch.argmax(left, -1, keepdim=True))
    return torch.cat(found, -1)


@best.register_fake
def _(x: Tensor, count: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], count), dtype=torch.int64)


@torch.library.custom_op("dcompile::linear_blocks", mutates_args=())
def linear_blocks(x: Tensor, codes: Tensor, scale: Tensor, least: Tensor | None, bits: int, rough: bool) -> Tensor:
    """x [.., K] times the transpose of a matrix [N, K] in blocks (`from_blocks`): [.., N]. `rough`: the backend may
    round x to eight bits, block by block."""
    return torch.nn.functional.linear(x, from_blocks(codes, scale, least, bits))


@linear_blocks.register_fake
def _(x: Tensor, codes: Tensor, scale: Tensor, least: Tensor | None, bits: int, rough: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]))


@torch.library.custom_op("dcompile::embed_blocks", mutates_args=())
def embed_blocks(codes: Tensor, scale: Tensor, least: Tensor | None, bits: int, index: Tensor) -> Tensor:
    """Rows of a matrix [N, K] in blocks by index int64 [..]: float32 [.., K]."""
    return from_blocks(codes[index], scale[index], None if least is None else least[index], bits)


@embed_blocks.register_fake
def _(codes: Tensor, scale: Tensor, least: Tensor | None, bits: int, index: Tensor) -> Tensor:
    return index.new_empty((*index.shape, codes.shape[-2] * block_size(codes.shape, bits)), dtype=torch.float32)


MEMORY = torch.library.Library("dcompile", "FRAGMENT")  # type: ignore[no-untyped-call]
"""Operations on memory that a loop has for itself. Unlike all others they may give what they take, and change it."""


def _on_memory(name: str, arguments: str, run: Callable[..., Tensor], fake: Callable[..., Tensor]) -> Any:
    MEMORY.define(f"{name}({arguments}) -> Tensor")  # type: ignore[no-untyped-call]
    MEMORY.impl(name, run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"dcompile::{name}", fake, lib=MEMORY)
    return getattr(torch.ops.dcompile, name).default


def own(x: Tensor, number: int) -> Tensor:
    """A copy of x, float32; of several numbers, several copies."""
    return x.clone(memory_format=torch.contiguous_format)


def room(shape: Sequence[int], number: int) -> Tensor:
    """Zeros, float32; of several numbers, several tensors."""
    return torch.zeros(shape)


def store(cache: Tensor, index: Tensor, rows: Tensor, after: Sequence[Tensor]) -> Tensor:
    """The cache [B, G, N, D] itself, with rows [B, G, W, D] at the slots index int64 [B or 1, 1, W, 1] says; float32.
    `after`: who reads it before."""
    return cache.scatter_(2, index.expand(rows.shape), rows)


def pick(which: Tensor, all: Sequence[Tensor]) -> Tensor:
    """The tensor itself of a number int64 [1], among tensors of one shape and layout."""
    return all[int(which)]


def after(x: Tensor, others: Sequence[Tensor]) -> Tensor:
    """x itself, when the others have been computed."""
    return x


def block_size(codes: Sequence[int], bits: int) -> int:
    """How many weights of a row share a scale, by the shape of their codes."""
    return codes[-1] * 8 // bits


def from_blocks(codes: Tensor, scale: Tensor, least: Tensor | None, bits: int) -> Tensor:
    """Rows [.., K] in float32: scale · (q − 8 or 128), or scale · q + least. In blocks of S weights: `codes` uint8
    [.., K/S, S], or of four bits [.., K/S, S/2], two a byte, the lower half first; `scale` and `least` float16
    [.., K/S]."""
    if bits == 4:
        codes = torch.stack([codes % 16, codes // 16], -1).flatten(-2)
    q = codes.to(torch.float32)
    q = q - 2 ** (bits - 1) if least is None else q
    rows = q * scale.to(torch.float32).unsqueeze(-1)
    rows = rows if least is None else rows + least.to(torch.float32).unsqueeze(-1)
    return rows.reshape(*rows.shape[:-2], -1)


LINEAR_BLOCKS = torch.ops.dcompile.linear_blocks.default
EMBED_BLOCKS = torch.ops.dcompile.embed_blocks.default
EXP_SUMS = torch.ops.dcompile.exp_sums.default
BEST = torch.ops.dcompile.best.default
BEST_TWO = torch.ops.dcompile.best_two.default
OWN = _on_memory("own", "Tensor x, int number", own, lambda x, number: x.new_empty(x.shape))
ROOM = _on_memory("room", "int[] shape, int number", room, lambda shape, number: torch.empty(shape))
STORE = _on_memory(
    "store", "Tensor cache, Tensor index, Tensor rows, Tensor[] after", store, lambda cache, *_: torch.empty_like(cache)
)
PICK = _on_memory("pick", "Tensor which, Tensor[] all", pick, lambda which, all: torch.empty_like(all[0]))
AFTER = _on_memory("after", "Tensor x, Tensor[] others", after, lambda x, others: torch.empty_like(x))
