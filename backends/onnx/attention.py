"""Attention over keys and values that lie in parts: ONNX' own operation, or products whose scores are joined.

`Attention` is one node where the products are a dozen, and its kernel is the faster one; but it joins the cached part
and the fresh one by copying both. So a few queries over a long cache go by products instead (measured on two cores
with 9 heads of 64: one query over 1000 slots 6.5 ms a call for 30 layers against 9 ms, over 400 slots the other way
round). How much of a cache is live may be known only at run time; then the model holds both, and looks.
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

FEW = 4  # queries, up to which
LONG = 640  # slots are too many to copy
APART = 4  # heads that share keys, up to which a single query of each is multiplied by itself
INT64_MAX = 2**63 - 1

Parts = Sequence[Typed]


def attend(at: Scope, out: Typed, q: Typed, k: Parts, v: Parts, bias: Parts, scale: float) -> ir.Value:
    """`dcompile::attend`: q [B, H, W, D], parts [B, G, N_i, D], bias [B or 1, 1, W or 1, N_i]."""
    mask = _joined(at, bias)
    if len(k) > 2:
        return by_products(at, q, k, v, mask, scale)
    if len(k) == 1 or q.shape[2] > FEW or k[0].shape[2] <= LONG:
        return in_one(at, q, k, v, mask, scale)
    live = at.model.fronts.get(k[0].value)
    if live is None:
        return by_products(at, q, k, v, mask, scale)
    yes, no = (Scope(at.model, f"{at.name}.{side}", at) for side in ("long", "short"))
    long = Typed(by_products(yes, q, k, v, mask, scale), out.dtype, out.shape)
    short = Typed(in_one(no, q, k, v, mask, scale), out.dtype, out.shape)
    graphs: dict[str, Any] = {
        "then_branch": yes.finish([], [(long, "long")]),
        "else_branch": no.finish([], [(short, "short")]),
    }
    return at.op("If", _is_long(at.home(live), live), name="attend", **graphs)


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


def _is_long(at: Scope, live: ir.Value) -> ir.Value:
    return at.once(("long", live), lambda: at.op("Greater", live, at.ints(LONG)))


def in_one(at: Scope, q: Typed, k: Parts, v: Parts, mask: Typed, scale: float) -> ir.Value:
    """The operation of ONNX; the cached part is what it calls the past (it asks for the joined keys and values)."""
    past = (k[0], v[0]) if len(k) == 2 else ()
    mask = _spread(at, mask, (mask.shape[0], 1, q.shape[2]))
    outputs = 3 if past else 1
    return at.ops("Attention", q, k[-1], v[-1], mask, *past, outputs=outputs, name="attend", scale=float(scale))[0]


def by_products(at: Scope, q: Typed, k: Parts, v: Parts, mask: Typed, scale: float) -> ir.Value:
    """The scores of the parts are joined, never keys or values.

    Heads that share keys become rows of one product. With a single query and few of them, each is a product of its
    own instead: a vector times a matrix, which MLAS does without packing the matrix (0.7 of the time).
    """
    batch, heads, width, dim = q.shape
    groups, sizes = k[0].shape[1], [part.shape[2] for part in k]
    shared = heads // groups
    fixed = all(part.value not in at.model.fronts for part in k)
    apart = width == 1 and 1 < shared <= APART
    lead = (batch, groups, shared, width) if apart else (batch, groups, shared * width)
    if apart:
        q = Typed(at.op("Mul", q, at.constant(scale, q.dtype)), q.dtype, q.shape)
        k, v = ([_for_each_head(at, part) for part in parts] for parts in (k, v))
    rows = at.reshape(q, (*lead, dim))
    parts = [product(at, rows, part, q.dtype, flip=True, scale=1 if apart else scale) for part in k]
    scores = Typed(at.join(parts, axis=len(lead)), q.dtype, (*lead, sum(sizes)))
    weights = _weights(at, scores, mask, (batch, heads, width, sum(sizes)))
    shares = _shares(at, weights, sizes, len(lead), fixed)
    terms = [product(at, share, part, q.dtype) for share, part in zip(shares, v, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = at.op("Add", total, term)
    return at.reshape(Typed(total, q.dtype, (*lead, dim)), (batch, heads, width, dim))


def _shares(at: Scope, weights: ir.Value, sizes: Sequence[int], axis: int, fixed: bool) -> Sequence[ir.Value]:
    """The weights of each part; counted from the end where the length of the first part is known only at run time."""
    if len(sizes) == 1:
        return [weights]
    if fixed:
        return at.ops("Split", weights, at.ints(*sizes), outputs=len(sizes), axis=axis)
    ends = [-sum(sizes[i + 1 :]) for i in range(len(sizes))]
    starts = [0, *ends[:-1]]
    stops = [*ends[:-1], INT64_MAX]
    cuts = zip(starts, stops, strict=True)
    return [at.op("Slice", weights, at.ints(a), at.ints(b), at.ints(axis)) for a, b in cuts]


def front(at: Scope, out: Typed, x: Typed, count: Typed, axis: int, fill: float) -> ir.Value:
    """What is left out would not be attended; `attend` alone knows that the result may be shorter than its shape."""
    value = at.op("Slice", x, at.ints(0), count, at.ints(axis), name="front")
    at.model.fronts[value] = count.value
    return value


def _for_each_head(at: Scope, part: Typed) -> Typed:
    """With an axis of one behind the second: [B, G, N, D] -> [B, G, 1, N, D]; of a front where that is cut."""
    home = at.home(part.value) if part.value in at.model.fronts else at
    value = home.once(("head", part.value), lambda: home.op("Unsqueeze", part, home.ints(2), name="head"))
    return Typed(value, part.dtype, (*part.shape[:2], 1, *part.shape[2:]))


def _weights(at: Scope, scores: Typed, masks: Typed, spread: tuple[int, ...]) -> ir.Value:
    """The softmax of masked scores. The masks fit [batch, heads, width, n], and with one query other forms too."""
    if scores.rank == 5:
        return at.op("Softmax", at.op("Add", scores, _for_each_head(at, masks)), axis=4)
    if spread[2] == 1:
        return at.op("Softmax", at.op("Add", scores, masks), axis=3)
    apart = at.op("Reshape", scores, at.ints(*spread[:3], -1))
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
