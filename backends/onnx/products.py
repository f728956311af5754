"""Matrix products, linear layers, norms. A transpose of a factor becomes an attribute of the product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch

from dcompile.backends.onnx.scope import CONTRIB, Operand, Scope, Typed

aten = torch.ops.aten


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


def layer_norm(
    at: Scope, out: Typed, x: Typed, shape: Sequence[int], weight: Typed | None, bias: Typed | None, eps: float, *_: Any
) -> ir.Value:
    scale = weight or Typed(at.constant(1, x.dtype, shape), x.dtype, tuple(shape))
    return at.op("LayerNormalization", x, scale, bias, axis=x.rank - len(shape), epsilon=float(eps))


def native_layer_norm(at: Scope, out: Sequence[Typed], *args: Any) -> Sequence[ir.Value]:
    """The first result alone: nothing that decodes reads mean and deviation."""
    return [layer_norm(at, out[0], *args), *(ir.Value(name="") for _ in out[1:])]


OPS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((aten.mm.default, aten.bmm.default, aten.matmul.default), matmul),
    **dict.fromkeys((aten.mv.default, aten.dot.default), vector_product),
    aten.linear.default: linear,
    aten.addmm.default: addmm,
    aten.baddbmm.default: baddbmm,
    aten.layer_norm.default: layer_norm,
    aten.native_layer_norm.default: native_layer_norm,
}
