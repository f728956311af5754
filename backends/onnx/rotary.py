"""Rotary embeddings, q · cos + (−q₂, q₁) · sin, where both halves of cos and sin are the same: one kernel, and tables
of all positions for a kernel that turns by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx

from dcompile.backends.onnx.patterns import COPIES, called, factors, is_float32, shape
from dcompile.backends.onnx.scope import CONTRIB, Scope, Typed
from dcompile.passes.edit import emit

aten = torch.ops.aten


def recognised(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node] | None:
    """(q, cos, sin) of a rotary embedding: q [B, H, W, D], cos and sin [B or 1, 1, W, D]."""
    if not called(node, aten.add.Tensor) or len(shape(node)) != 4 or not is_float32(node):
        return None
    for left, right in ((node.args[0], node.args[1]), (node.args[1], node.args[0])):
        for q, cos in factors(left):
            for turned, sin in factors(right):
                fits = _is_turned(turned, q) and _is_angle(cos, q) and _is_angle(sin, q)
                if fits and _halves_same(cos, aten.cos.default) and _halves_same(sin, aten.sin.default):
                    return q, cos, sin
    return None


def _is_angle(node: Any, q: fx.Node) -> bool:
    if not isinstance(node, fx.Node) or len(shape(node)) != 4:
        return False
    rows, heads, width, dim = shape(node)
    return heads == 1 and rows in (1, shape(q)[0]) and (width, dim) == shape(q)[2:]


def _is_turned(node: Any, q: Any) -> bool:
    """cat(−second half, first half) of q along its last axis."""
    if not isinstance(q, fx.Node) or not called(node, aten.cat.default) or len(node.args[0]) != 2:
        return False
    axis, dim = (node.args[1] if len(node.args) > 1 else 0), shape(q)[-1]
    minus, first = node.args[0]
    if axis not in (-1, 3) or not called(minus, aten.neg.default):
        return False
    return _is_part(minus.args[0], q, dim // 2, dim) and _is_part(first, q, 0, dim // 2)


def _is_part(node: Any, q: fx.Node, start: int, end: int) -> bool:
    if not called(node, aten.slice.Tensor) or node.args[0] is not q or len(node.args) > 4:
        return False
    given: list[Any] = list(node.args[1:])
    axis, low, high = given + [0, None, None][len(given) :]
    places = range(shape(q)[-1])[low:high]
    return axis in (-1, 3) and (places.start, places.stop) == (start, end)


def _halves_same(node: Any, function: Any) -> bool:
    """Whether this is cos or sin of cat(f, f), perhaps scaled, cast or given an axis."""
    while called(node, *COPIES, aten.unsqueeze.default, aten.mul.Tensor, aten.mul.Scalar):
        if node.target in (aten.mul.Tensor, aten.mul.Scalar) and not isinstance(node.args[1], (int, float)):
            return False
        node = node.args[0]
    if not called(node, function) or not called(node.args[0], aten.cat.default):
        return False
    parts = node.args[0].args[0]
    return len(parts) == 2 and parts[0] is parts[1] and node.args[0].args[1:] in ((-1,), (2,))


# ------------------------------------------------------------ tables


def turned(x: Tensor, tables: Sequence[Tensor], position: Tensor) -> Tensor:
    """x [1, H, W, D] turned as at positions int64 [1, W]; tables of cos and sin [1, 1, C, D]."""
    cos, sin = (table.index_select(2, position.reshape(-1)) for table in tables)
    half = x.shape[3] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Tables:
    """Writes down in a graph what it computes from `width` positions, for all positions of a canvas."""

    def __init__(self, graph: fx.Graph, slots: int, width: int) -> None:
        self._graph, self._slots, self._width = graph, slots, width
        self._made: dict[fx.Node, fx.Node] = {}
        self.position: fx.Node | None = None

    def of(self, node: fx.Node) -> fx.Node | None:
        """The table [1, 1, C, D] of which an angle [1, 1, W, D] is rows; None where it depends on more than positions.
        Afterwards `position` int64 [1, W] says which rows."""
        root = _position(node, self._width)
        if root is None or self.position not in (None, root):
            return None
        if self.position is None:
            self.position, self._made[root] = root, self._places(root)
        return self._again(node)

    def _places(self, root: fx.Node) -> fx.Node:
        """int64 [1, C]"""
        places = self._graph.call_function(aten.arange.default, (self._slots,))
        with root.meta["val"].fake_mode:
            places.meta["val"] = torch.arange(self._slots)
        return emit(self._graph, aten.unsqueeze.default, places, 0)

    def _again(self, node: fx.Node) -> fx.Node:
        if node.op != "call_function":
            return node
        if node not in self._made:
            args = fx.node.map_arg(node.args, self._again)
            assert callable(node.target)
            self._made[node] = emit(self._graph, node.target, *args, like=node, **node.kwargs)
        return self._made[node]


STEPS = (
    *COPIES,
    aten.unsqueeze.default,
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.cos.default,
    aten.sin.default,
    aten.cat.default,
)


def _position(node: Any, width: int) -> fx.Node | None:
    """The positions [1, W] that an angle depends on, by operations that take any number of them."""
    if node.meta["val"].dtype == torch.int64 and tuple(node.meta["val"].shape) == (1, width):
        return node  # type: ignore[no-any-return]
    if not called(node, *STEPS):
        return None
    inputs = [n for n in node.all_input_nodes if n.op != "get_attr"]
    return _position(inputs[0], width) if len(inputs) == 1 else None


# ------------------------------------------------------------ emitting


def rotate(at: Scope, q: Typed, cos: Typed, sin: Typed) -> Sequence[ir.Value]:
    """ORT looks cos and sin up by position: their rows are numbered here."""
    batch, heads, width, dim = q.shape
    rows = cos.shape[0] * width
    places = np.broadcast_to(np.arange(rows).reshape(cos.shape[0], width), (batch, width))
    tables = [at.constant(places, torch.int64), *(half(at, x) for x in (cos, sin))]
    if width > 1:
        return [at.op("RotaryEmbedding", q, *tables, domain=CONTRIB, name="rotary")]
    flat = (batch, 1, heads * dim)  # one position: its heads lie in a row, as the layer in front gives them
    made = at.op(
        "RotaryEmbedding", at.reshape(q, flat), *tables, domain=CONTRIB, name="rotary", num_heads=heads,
        rotary_embedding_dim=dim,
    )  # fmt: skip
    return [at.reshape(Typed(at.shaped(made, flat), q.dtype, flat), q.shape)]


def half(at: Scope, x: Typed) -> ir.Value:
    """The first halves [B · W, D/2] of angles [B, 1, W, D]."""
    rows, _, width, dim = x.shape

    def cut() -> ir.Value:
        return at.op("Slice", at.reshape(x, (rows * width, dim)), at.ints(0), at.ints(dim // 2), at.ints(1))

    return at.once(("half", x.value), cut)
