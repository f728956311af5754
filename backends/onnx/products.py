"""Matrix products, linear layers, attention. A transpose of a factor becomes an attribute of the product."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch

from dcompile.backends.onnx.front import FRONT
from dcompile.backends.onnx.scope import CONTRIB, Operand, Scope, Typed
from dcompile.ops import FLOOR

aten = torch.ops.aten

INT64_MAX = 2**63 - 1
APART = 4  # heads that share keys, up to which a single query of each is multiplied by itself


def product(at: Scope, a: Operand, b: Operand, dtype: torch.dtype, flip: bool = False, scale: float = 1) -> ir.Value:
    """a @ b · scale; `flip` swaps the last two axes of b. Weights keep torch's layout: nothing is stored transposed."""
    left, right = (x.value if isinstance(x, Typed) else x for x in (a, b))
    if dtype != torch.float32:
        assert not flip and scale == 1, "ORT fuses products of float32 only"
        return at.op("MatMul", left, right)
    under = _transposed_matrix(right)
    if under is not None:
        right, flip = under, not flip
    if not flip and scale == 1:
        return at.op("MatMul", left, right)
    attributes: dict[str, float] = {"transB": 1} if flip else {}
    if scale != 1:
        attributes["alpha"] = float(scale)
    return at.op("FusedMatMul", left, right, domain=CONTRIB, name="matmul", **attributes)


def _transposed_matrix(value: ir.Value) -> ir.Value | None:
    """What a value is the transpose of, if only its last two axes were swapped."""
    node = value.producer()
    if node is None or node.op_type != "Transpose":
        return None
    order = list(node.attributes["perm"].as_ints())
    swapped = [*range(len(order) - 2), len(order) - 1, len(order) - 2]
    return node.inputs[0] if order == swapped else None


def matmul(at: Scope, out: Typed, a: Typed, b: Typed) -> ir.Value:
    return product(at, a, b, out.dtype)


def vector_product(at: Scope, out: Typed, a: Typed, b: Typed) -> ir.Value:
    return at.op("MatMul", a, b)


def linear(at: Scope, out: Typed, x: Typed, weight: Typed, bias: Typed | None = None) -> ir.Value:
    """x @ weight.T + bias, weight [out, in] as stored."""
    if out.dtype != torch.float32:
        value = at.op("MatMul", x, at.op("Transpose", weight, perm=[1, 0]))
    elif x.rank == 2 and bias is not None:
        return at.op("Gemm", x, weight, bias, transB=1)
    else:
        value = product(at, x, weight, out.dtype, flip=True)
    return value if bias is None else at.op("Add", value, bias)


def addmm(at: Scope, out: Typed, bias: Typed, a: Typed, b: Typed, beta: float = 1, alpha: float = 1) -> ir.Value:
    under = _transposed_matrix(b.value)
    if out.dtype == torch.float32:
        factor = b.value if under is None else under
        return at.op("Gemm", a, factor, bias, transB=int(under is not None), beta=float(beta), alpha=float(alpha))
    assert beta == 1 and alpha == 1, "addmm with factors, of integers"
    return at.op("Add", at.op("MatMul", a, b), bias)


def baddbmm(at: Scope, out: Typed, bias: Typed, a: Typed, b: Typed, beta: float = 1, alpha: float = 1) -> ir.Value:
    value = product(at, a, b, out.dtype, scale=alpha)
    term = bias.value if beta == 1 else at.op("Mul", bias, at.constant(beta, out.dtype))
    return at.op("Add", value, term)


# ------------------------------------------------------------ attention


def attend(
    at: Scope, out: Typed, q: Typed, k: Sequence[Typed], v: Sequence[Typed], bias: Sequence[Typed], scale: float
) -> ir.Value:
    """`dcompile::attend`: the scores of the parts are joined, never keys or values.

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
        q = Typed(_scaled(at, q, scale), q.dtype, q.shape)
        k, v = ([_for_each_head(at, part) for part in parts] for parts in (k, v))
    rows = at.reshape(q, (*lead, dim))
    parts = [product(at, rows, part, q.dtype, flip=True, scale=1 if apart else scale) for part in k]
    scores = Typed(at.join(parts, axis=len(lead)), q.dtype, (*lead, sum(sizes)))
    masks = Typed(at.join([b.value for b in bias], axis=3), q.dtype, (batch, 1, width, sum(sizes)))
    weights = _weights(at, scores, masks, (batch, heads, width, sum(sizes)))
    shares = _shares(at, weights, sizes, len(lead), fixed)
    terms = [product(at, share, part, q.dtype) for share, part in zip(shares, v, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = at.op("Add", total, term)
    return at.reshape(Typed(total, q.dtype, (*lead, dim)), (batch, heads, width, dim))


def _scaled(at: Scope, q: Typed, scale: float) -> ir.Value:
    """q · scale; of a rotary embedding its tables are scaled instead, which all layers share."""
    node = q.value.producer()
    if node is None or node.op_type != "RotaryEmbedding":
        return at.op("Mul", q, at.constant(scale, q.dtype))
    tables = [_scaled_table(at.home(t), t, scale) for t in node.inputs[2:] if t is not None]
    return at.op("RotaryEmbedding", *node.inputs[:2], *tables, domain=CONTRIB, name="rotary")


def _scaled_table(at: Scope, table: ir.Value, scale: float) -> ir.Value:
    return at.once(("scaled", table, scale), lambda: at.op("Mul", table, at.constant(scale, torch.float32)))


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
    at.model.fronts.add(value)
    return value


def _for_each_head(at: Scope, part: Typed) -> Typed:
    """With an axis of one behind the second: [B, G, N, D] -> [B, G, 1, N, D]."""
    home = at.home(part.value)
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


def layer_norm(
    at: Scope, out: Typed, x: Typed, shape: Sequence[int], weight: Typed | None, bias: Typed | None, eps: float, *_: Any
) -> ir.Value:
    scale = weight or Typed(at.constant(1, x.dtype, shape), x.dtype, tuple(shape))
    return at.op("LayerNormalization", x, scale, bias, axis=x.rank - len(shape), epsilon=float(eps))


def native_layer_norm(at: Scope, out: Sequence[Typed], *args: Any) -> Sequence[ir.Value]:
    """The first result alone: nothing that decodes reads mean and deviation."""
    return [layer_norm(at, out[0], *args), *(ir.Value(name="") for _ in out[1:])]


def flash_attention(
    at: Scope, out: Sequence[Typed], q: Typed, k: Typed, v: Typed, dropout: float, causal: bool, mask: Typed | None,
    scale: float | None,
) -> Sequence[ir.Value]:  # fmt: skip
    return [scaled_dot_product_attention(at, out[0], q, k, v, mask, dropout, causal, scale), ir.Value(name="")]


OPS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((aten.mm.default, aten.bmm.default, aten.matmul.default), matmul),
    **dict.fromkeys((aten.mv.default, aten.dot.default), vector_product),
    aten.linear.default: linear,
    aten.addmm.default: addmm,
    aten.baddbmm.default: baddbmm,
    aten.scaled_dot_product_attention.default: scaled_dot_product_attention,
    aten._scaled_dot_product_flash_attention_for_cpu.default: flash_attention,
    aten.layer_norm.default: layer_norm,
    aten.native_layer_norm.default: native_layer_norm,
    torch.ops.dcompile.attend.default: attend,
    FRONT: front,
}
