"""The token with the largest logit, without the whole product of the language-model head.

argmax(head · x) reads all of the head for one number. Codes of eight bits, made of the head when the graph is loaded,
give each logit with a bound on its error, at a quarter of the bytes; the few rows that the bounds leave in the race are
read from the head itself and multiplied in float32, and the largest of these is the largest of all.

    |w · x - w' · x'|  <=  |x| · (|w - w'| + |w'| · |x - x'| / |x|)        Cauchy, Schwarz

w' has one step a row. x' is the sum of two codes, the second of what the first leaves over, since a hidden state has
single large channels: |x - x'| / |x| <= sqrt(K) / (2 · 127 · 128).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx

from dcompile import ops
from dcompile.backends.onnx.blocks import rows_of
from dcompile.backends.onnx.fusion import Fusion, Parameter, parameter
from dcompile.backends.onnx.products import product
from dcompile.backends.onnx.scope import DTYPES, Scope, Typed, size_of

aten = torch.ops.aten

LARGE = 1 << 22  # weights of a head from which on screening is faster than the product
ROWS = 16  # rows of x up to which it is
MIDDLE = 128  # the code of 0
FINE = 128  # steps of the second code in one of the first
PIECE = 4096  # rows of a head whose bounds are computed at a time: the whole would need four times its memory
SLACK = 1e-5  # of |w'|: what sums in float32 may round


def find(module: fx.GraphModule) -> dict[fx.Node, Fusion]:
    """The fusions of a graph by the argmax at which each is emitted."""
    found: dict[fx.Node, Fusion] = {}
    for node in module.graph.find_nodes(op="call_function", target=aten.argmax.default):
        head = head_behind(module, node.args[0])
        if head is not None and node.args[1:] == (-1,) and only_chosen(head):
            weights = [parameter(module, place) for place in weights_of(head)]
            bits = head.args[4] if head.target is ops.LINEAR_BLOCKS else 32
            found[node] = Fusion(best, (weights, bits, tuple(node.meta["val"].shape), head.args[0]), (node,))
    return found


def head_behind(module: fx.GraphModule, node: Any) -> fx.Node | None:
    """The large linear layer without bias whose result this is, perhaps in another shape with the same last axis. None
    where its product may be rough: that reads no more bytes than the codes here have."""
    while node.target is aten.reshape.default and _width(node) == _width(node.args[0]):
        node = node.args[0]
    exact = node.target is ops.LINEAR_BLOCKS and not node.args[5]
    if exact or (node.target is aten.linear.default and len(node.args) == 2):
        places = [place for place in weights_of(node) if place is not None]
        if all(place.op == "get_attr" for place in places) and node.meta["val"].dtype == torch.float32:
            return node if _width(node) * _width(node.args[0]) >= LARGE else None
    return None


def weights_of(head: fx.Node) -> tuple[Any, ...]:
    """The places of a head's matrix, or of its codes, scales and offsets."""
    return head.args[1:4] if head.target is ops.LINEAR_BLOCKS else head.args[1:2]


def only_chosen(logits: fx.Node) -> bool:
    """Whether of some logits nothing is asked but which is the largest."""
    return all(
        user.args[1:] == (-1,) if user.target is aten.argmax.default else user.target is aten.reshape.default
        and _width(user) == _width(logits) and only_chosen(user)
        for user in logits.users
    )  # fmt: skip


def _width(node: fx.Node) -> int:
    return int(node.meta["val"].shape[-1])


# ------------------------------------------------------------ emitting


def best(
    at: Scope, head: Sequence[Parameter | None], bits: int, shape: Sequence[int], x: Typed
) -> list[ir.Value] | None:
    """Tokens int64 of `shape` for hidden states x [.., K], or None where a product is faster."""
    if size_of(x.shape[:-1]) > ROWS:
        return None
    known = [None if p is None else at.weight(p.name, p.tensor) for p in head]
    states = Typed(at.reshape(x, (-1, x.shape[-1])), torch.float32, (-1, x.shape[-1]))
    tokens = _left(at, states, head, bits, known)
    rows = Typed(_matrix(at, known, bits, tokens), torch.float32, (-1, x.shape[-1]))
    winner = at.op("ArgMax", product(at, states, rows, torch.float32, flip=True), axis=-1, keepdims=0)
    return [at.reshape(at.op("Gather", tokens, winner, axis=0), shape)]


def _left(at: Scope, x: Typed, head: Sequence[Parameter | None], bits: int, known: Sequence[Typed | None]) -> ir.Value:
    """The rows of the head that may have the largest product with some row of x, in order: int64 [n]."""
    step, bound = steps_and_bounds([None if p is None else p.tensor for p in head], bits)
    logits = at.op("Mul", _rough(at, x, _codes(at, known, bits, step), len(step)), _floats(at, step))
    error = at.op("Mul", at.op("ReduceL2", x, at.ints(1), keepdims=1), _floats(at, bound))
    sure = at.op("ReduceMax", at.op("Sub", logits, error), at.ints(1), keepdims=1)
    margin = at.op("Sub", at.op("Add", logits, error), sure)
    out = at.op("Less", at.op("ReduceMax", margin, at.ints(0), keepdims=0), _floats(at, torch.zeros(())))
    return at.reshape(at.op("NonZero", at.op("Not", out)), (-1,))  # so a row of NaN leaves all rows in


def _rough(at: Scope, x: Typed, codes: ir.Value, count: int) -> ir.Value:
    """x [n, K] by codes [K, count], in units of each row's step: [n, count]."""
    unit = at.op("ReduceMax", at.op("Abs", x), keepdims=0)
    unit = at.op("Mul", at.op("Max", unit, at.constant(1e-30, x.dtype)), at.constant(1 / (MIDDLE - 1), x.dtype))
    scaled = at.op("Div", x, unit)
    first = at.op("Round", scaled)
    second = at.op("Round", at.op("Mul", at.op("Sub", scaled, first), at.constant(FINE, x.dtype)))
    both = at.op("Add", at.op("Concat", first, second, axis=0), at.constant(MIDDLE, x.dtype))
    middle = at.constant(MIDDLE, torch.uint8)
    sums = at.op("MatMulInteger", at.op("Cast", both, to=DTYPES[torch.uint8]), codes, middle, middle, name="matmul")
    pair = at.reshape(at.op("Cast", sums, to=DTYPES[x.dtype]), (2, -1))
    units = at.op("Mul", unit, at.constant([[1.0, 1 / FINE]], x.dtype))
    return at.reshape(at.op("MatMul", units, pair), (-1, count))


def _codes(at: Scope, known: Sequence[Typed | None], bits: int, step: Tensor) -> ir.Value:
    """uint8 [K, N]; ONNX Runtime folds it when it loads the graph."""
    middles = at.constant(MIDDLE, torch.uint8, step.shape)
    codes = at.op("QuantizeLinear", _matrix(at, known, bits), _floats(at, step), middles, axis=0)
    return at.op("Transpose", codes, perm=[1, 0])


def _matrix(at: Scope, known: Sequence[Typed | None], bits: int, index: ir.Value | None = None) -> ir.Value:
    """The head, or rows of it, as floats [N, K]."""
    codes, *rest = known
    assert codes is not None
    if not rest:
        return codes.value if index is None else at.op("Gather", codes, index, axis=0)
    scale, least = rest
    assert scale is not None
    return rows_of(at, codes, scale, least, bits, index)


def steps_and_bounds(head: Sequence[Tensor | None], bits: int) -> tuple[Tensor, Tensor]:
    """Of each row of a head: the step of its codes, and the largest error of a product, in units of |x|. Both [N]."""
    count = next(len(part) for part in head if part is not None)
    pieces = [
        _of_rows([None if part is None else part[at : at + PIECE] for part in head], bits)
        for at in range(0, count, PIECE)
    ]
    steps, bounds = zip(*pieces, strict=True)
    return torch.cat(steps), torch.cat(bounds)


def _of_rows(head: Sequence[Tensor | None], bits: int) -> tuple[Tensor, Tensor]:
    codes, *rest = head
    assert codes is not None
    matrix = codes if not rest else ops.from_blocks(codes, rest[0], rest[1], bits)  # type: ignore[arg-type]
    step = torch.clamp(matrix.abs().amax(1), min=1e-30) / (MIDDLE - 1)
    near = torch.round(matrix / step.unsqueeze(1)) * step.unsqueeze(1)
    share = math.sqrt(matrix.shape[1]) / (2 * (MIDDLE - 1) * FINE) + SLACK
    return step, 1.001 * (matrix - near).norm(dim=1) + share * near.norm(dim=1)


def _floats(at: Scope, values: Tensor) -> ir.Value:
    return at.constant(values.detach().numpy(), torch.float32)
