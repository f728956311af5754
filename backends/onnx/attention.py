"""Attention over keys and values that lie in parts: ONNX' own operation, or products whose scores are joined.

`Attention` is one node where the products are a dozen, and for many queries its kernel is the faster one; but it joins
the cached part and the fresh one by copying both. So a few queries over two parts go by products, of any length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch

from dcompile.backends.onnx.front import FRONT
from dcompile.backends.onnx.products import product
from dcompile.backends.onnx.scope import Scope, Typed
from dcompile.ops import FLOOR

aten = torch.ops.aten

FEW = 4  # queries, up to which nothing is copied

Parts = Sequence[Typed]


def attend(at: Scope, out: Typed, q: Typed, k: Parts, v: Parts, bias: Parts, scale: float) -> ir.Value:
    """`dcompile::attend`: q [B, H, W, D], parts [B, G, N_i, D], bias [B or 1, 1, W or 1, N_i]."""
    mask = _joined(at, bias)
    if len(k) == 1 or (len(k) == 2 and q.shape[2] > FEW):
        return in_one(at, q, k, v, mask, scale)
    return by_products(at, q, k, v, mask, scale)


def _joined(at: Scope, bias: Parts) -> Typed:
    """One mask of all parts, for as many rows and queries as any of them has."""
    lead = (max(b.shape[0] for b in bias), 1, max(b.shape[2] for b in bias))
    parts = [_spread(at, b, lead).value for b in bias]
    return Typed(at.join(parts, axis=3), bias[0].dtype, (*lead, sum(b.shape[3] for b in bias)))


def _spread(at: Scope, bias: Typed, lead: tuple[int, ...]) -> Typed:
    """The same for other rows and queries; its last length may be known only at run time."""
    if bias.shape[:3] == lead:
        return bias
    value = at.once(("spread", bias.value, lead), lambda: at.op("Expand", bias, at.ints(*lead, 1)))
    return Typed(value, bias.dtype, (*lead, bias.shape[3]))


def in_one(at: Scope, q: Typed, k: Parts, v: Parts, mask: Typed, scale: float) -> ir.Value:
    """The operation of ONNX; the cached part is what it calls the past (it asks for the joined keys and values)."""
    past = (k[0], v[0]) if len(k) == 2 else ()
    mask = _spread(at, mask, (mask.shape[0], 1, q.shape[2]))
    outputs = 3 if past else 1
    return at.ops("Attention", q, k[-1], v[-1], mask, *past, outputs=outputs, name="attend", scale=float(scale))[0]


def by_products(at: Scope, q: Typed, k: Parts, v: Parts, mask: Typed, scale: float) -> ir.Value:
    """The scores of the parts are joined, never keys or values. Heads that share keys become rows of one product."""
    batch, heads, width, dim = q.shape
    groups, sizes = k[0].shape[1], [part.shape[2] for part in k]
    lead = (batch, groups, heads // groups * width)
    rows = at.reshape(q, (*lead, dim))
    parts = [product(at, rows, part, q.dtype, flip=True, scale=scale) for part in k]
    scores = Typed(at.join(parts, axis=3), q.dtype, (*lead, sum(sizes)))
    weights = _weights(at, scores, mask, (batch, heads, width))
    shares: Sequence[ir.Value] = [weights]
    if len(k) > 1:
        shares = at.ops("Split", weights, _sizes(at, k), outputs=len(k), axis=3)
    terms = [product(at, share, part, q.dtype) for share, part in zip(shares, v, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = at.op("Add", total, term)
    return at.reshape(Typed(total, q.dtype, (*lead, dim)), q.shape)


def _sizes(at: Scope, k: Parts) -> ir.Value:
    """How many slots each part has: of a front, how many are live."""
    if all(part.value not in at.model.fronts for part in k):
        return at.ints(*[part.shape[2] for part in k])
    counts = [at.model.fronts.get(part.value) or at.ints(part.shape[2]) for part in k]
    return at.once(("sizes", *counts), lambda: at.op("Concat", *counts, axis=0, name="sizes"))


def front(at: Scope, out: Typed, x: Typed, count: Typed, axis: int, fill: float) -> ir.Value:
    """What is left out would not be attended; `attend` alone knows that the result may be shorter than its shape."""
    value = at.op("Slice", x, at.ints(0), count, at.ints(axis), name="front")
    at.model.fronts[value] = count.value
    return value


def _weights(at: Scope, scores: Typed, masks: Typed, queries: tuple[int, int, int]) -> ir.Value:
    """The softmax of masked scores; the masks fit those of [batch, heads, width], and as they are with one query."""
    if queries[2] == 1:
        return at.op("Softmax", at.op("Add", scores, masks), axis=3)
    apart = at.op("Reshape", scores, at.ints(*queries, -1))
    weights = at.op("Softmax", at.op("Add", apart, masks), axis=3)
    return at.op("Reshape", weights, at.ints(*scores.shape[:3], -1))


def scaled_dot_product_attention(
    at: Scope,
    out: Typed,
    q: Typed,
    k: Typed,
    v: Typed,
    mask: Typed | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    *_: Any,
) -> ir.Value:
    """q [.., W, D], k and v [.., N, D]; heads that share keys are folded into rows as in `attend`."""
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    heads, groups = (q.shape[-3], k.shape[-3]) if q.rank > 2 else (1, 1)
    width, length = q.shape[-2], k.shape[-2]
    lead = (*q.shape[:-3], groups) if q.rank > 2 else ()
    rows = at.reshape(q, (*lead, heads // groups * width, q.shape[-1]))
    scores = at.reshape(product(at, rows, k, q.dtype, flip=True, scale=factor), (*q.shape[:-1], length))
    if causal:
        seen = torch.ones(width, length, dtype=torch.bool).tril()
        scores = at.op("Where", at.constant(seen.numpy(), torch.bool), scores, at.constant(FLOOR, q.dtype))
    if mask is not None and mask.dtype == torch.bool:
        scores = at.op("Where", mask, scores, at.constant(FLOOR, q.dtype))
    elif mask is not None:
        scores = at.op("Add", scores, mask)
    weights = at.reshape(at.op("Softmax", scores, axis=-1), (*lead, heads // groups * width, length))
    return at.reshape(product(at, weights, v, q.dtype), out.shape)


def flash_attention(
    at: Scope, out: Sequence[Typed], q: Typed, k: Typed, v: Typed, dropout: float, causal: bool, mask: Typed | None,
    scale: float | None,
) -> Sequence[ir.Value]:  # fmt: skip
    return [scaled_dot_product_attention(at, out[0], q, k, v, mask, dropout, causal, scale), ir.Value(name="")]


OPS: dict[Any, Callable[..., Any]] = {
    torch.ops.dcompile.attend.default: attend,
    FRONT: front,
    aten.scaled_dot_product_attention.default: scaled_dot_product_attention,
    aten._scaled_dot_product_flash_attention_for_cpu.default: flash_attention,
}
