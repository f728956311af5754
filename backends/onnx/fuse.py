"""Patterns that ONNX Runtime has one kernel for: found in FX, emitted at one node; the rest falls away unused.

x · rsqrt(mean(x²) + eps) · w      ->  SimplifiedLayerNormalization
the same of a sum a + b            ->  SkipSimplifiedLayerNormalization, which gives the sum as well
q · cos + (−q₂, q₁) · sin          ->  RotaryEmbedding, when both halves of cos and sin are the same
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx

from dcompile.backends.onnx import screen
from dcompile.backends.onnx.blocks import linear_blocks
from dcompile.backends.onnx.fusion import Fusion, Parameter, parameter
from dcompile.backends.onnx.products import product
from dcompile.backends.onnx.scope import CONTRIB, Scope, Typed
from dcompile.ops import LINEAR_BLOCKS
from dcompile.program import Program, attribute, modules

aten = torch.ops.aten

COPIES = frozenset({aten.to.dtype, aten._to_copy.default, aten.clone.default, aten.alias.default})


def find(module: fx.GraphModule) -> dict[fx.Node, Fusion]:
    """The fusions of a graph by the node at which each is emitted."""
    found = screen.find(module)
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        norm = _norm(node)
        if norm is not None:
            x, weight, eps = norm
            if _is_sum(x) and x not in found and order[weight] < order[x]:
                found[x] = Fusion(skip_norm, (*x.args[:2], weight, eps), (x, node))
            else:
                found[node] = Fusion(plain_norm, (x, weight, eps), (node,))
        rotary = _rotary(node)
        if rotary is not None:
            found[node] = Fusion(rotate, rotary, (node,))
    for layers in siblings(module):
        parameters = [[parameter(module, place) for place in layer.args[1:]] for layer in layers]
        found[layers[0]] = Fusion(linear_layers, (parameters, layers[0].args[0]), tuple(layers))
    for layers in block_siblings(module):
        parameters = [[parameter(module, place) for place in layer.args[1:4]] for layer in layers]
        found[layers[0]] = Fusion(block_layers, (parameters, layers[0].args[4:], layers[0].args[0]), tuple(layers))
    return found


def siblings(module: fx.GraphModule) -> list[list[Any]]:
    """Linear layers that read the same input, each with a weight of its own and perhaps a bias."""
    groups: dict[Any, list[Any]] = {}
    for node in module.graph.find_nodes(op="call_function", target=aten.linear.default):
        places = [place for place in node.args[1:] if place is not None]
        if all(place.op == "get_attr" for place in places) and _float32(node) and not node.kwargs:
            groups.setdefault(node.args[0], []).append(node)
    return [g for g in groups.values() if 1 < len(g) == len({str(n.args[1].target) for n in g})]


def block_siblings(module: fx.GraphModule) -> list[list[Any]]:
    """The same of layers whose weights lie in blocks of one form."""
    groups: dict[Any, list[Any]] = {}
    for node in module.graph.find_nodes(op="call_function", target=LINEAR_BLOCKS):
        x, codes, _, least, bits, _ = node.args
        groups.setdefault((x, _shape(codes)[1:], bits, least is None), []).append(node)
    return [g for g in groups.values() if 1 < len(g) == len({str(n.args[1].target) for n in g})]


def weights_together(program: Program) -> list[list[Tensor]]:
    """The weights of all sibling layers of a program, for `weights.write`; codes, scales and offsets apart."""
    return [
        [attribute(module, str(node.args[at].target)) for node in layers]  # type: ignore[misc]
        for graph in program.graphs
        for module in modules(graph.module)
        for layers, places in (
            (g, p) for found, p in ((siblings(module), (1,)), (block_siblings(module), (1, 2, 3))) for g in found
        )
        for at in places
        if layers[0].args[at] is not None
    ]


# ------------------------------------------------------------ recognising


def _is(node: Any, *targets: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _float32(node: fx.Node) -> bool:
    return bool(node.meta["val"].dtype == torch.float32)


def _behind(node: Any) -> Any:
    """The node behind casts that do not change the dtype."""
    while _is(node, *COPIES) and node.meta["val"].dtype == node.args[0].meta["val"].dtype:
        node = node.args[0]
    return node


def _factors(node: Any) -> list[tuple[Any, Any]]:
    """Both readings of a product."""
    if not _is(node, aten.mul.Tensor):
        return []
    a, b = _behind(node.args[0]), _behind(node.args[1])
    return [(a, b), (b, a)]


def _norm(node: fx.Node) -> tuple[fx.Node, fx.Node, float] | None:
    """(x, weight, eps) of a root-mean-square norm with its weight."""
    for weight, scaled in _factors(node):
        if not isinstance(weight, fx.Node) or not _float32(node) or _shape(weight) != _shape(node)[-1:]:
            continue
        for x, root in _factors(scaled):
            if _is(root, aten.rsqrt.default) and _is(root.args[0], aten.add.Tensor, aten.add.Scalar):
                mean, eps = root.args[0].args[:2]
                if isinstance(eps, float) and _is_mean_square(mean, x) and _shape(x) == _shape(node):
                    return x, weight, eps
    return None


def _is_mean_square(mean: Any, x: Any) -> bool:
    if not _is(mean, aten.mean.dim) or list(mean.args[1]) not in ([-1], [len(_shape(x)) - 1]):
        return False
    square = mean.args[0]
    if _is(square, aten.pow.Tensor_Scalar):
        return square.args[1] == 2 and _behind(square.args[0]) is x
    return any(a is x and b is x for a, b in _factors(square))


def _is_sum(node: Any) -> bool:
    """a + b of two activations of one shape, as SkipSimplifiedLayerNormalization takes them."""
    if not _is(node, aten.add.Tensor) or len(node.args) != 2 or node.kwargs or len(_shape(node)) != 3:
        return False
    return all(isinstance(a, fx.Node) and _shape(a) == _shape(node) and _float32(a) for a in node.args)


def _rotary(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node] | None:
    """(q, cos, sin) of a rotary embedding: q [B, H, W, D], cos and sin [B or 1, 1, W, D]."""
    if not _is(node, aten.add.Tensor) or len(_shape(node)) != 4 or not _float32(node):
        return None
    for left, right in ((node.args[0], node.args[1]), (node.args[1], node.args[0])):
        for q, cos in _factors(left):
            for turned, sin in _factors(right):
                fits = _is_turned(turned, q) and _is_angle(cos, q) and _is_angle(sin, q)
                if fits and _halves_same(cos, aten.cos.default) and _halves_same(sin, aten.sin.default):
                    return q, cos, sin
    return None


def _is_angle(node: Any, q: fx.Node) -> bool:
    if not isinstance(node, fx.Node) or len(_shape(node)) != 4:
        return False
    rows, heads, width, dim = _shape(node)
    return heads == 1 and rows in (1, _shape(q)[0]) and (width, dim) == _shape(q)[2:]


def _is_turned(node: Any, q: Any) -> bool:
    """cat(−second half, first half) of q along its last axis."""
    if not isinstance(q, fx.Node) or not _is(node, aten.cat.default) or len(node.args[0]) != 2:
        return False
    axis, dim = (node.args[1] if len(node.args) > 1 else 0), _shape(q)[-1]
    minus, first = node.args[0]
    if axis not in (-1, 3) or not _is(minus, aten.neg.default):
        return False
    return _is_part(minus.args[0], q, dim // 2, dim) and _is_part(first, q, 0, dim // 2)


def _is_part(node: Any, q: fx.Node, start: int, end: int) -> bool:
    if not _is(node, aten.slice.Tensor) or node.args[0] is not q or len(node.args) > 4:
        return False
    given: list[Any] = list(node.args[1:])
    axis, low, high = given + [0, None, None][len(given) :]
    places = range(_shape(q)[-1])[low:high]
    return axis in (-1, 3) and (places.start, places.stop) == (start, end)


def _halves_same(node: Any, function: Any) -> bool:
    """Whether this is cos or sin of cat(f, f), perhaps scaled, cast or given an axis."""
    while _is(node, *COPIES, aten.unsqueeze.default, aten.mul.Tensor, aten.mul.Scalar):
        if node.target in (aten.mul.Tensor, aten.mul.Scalar) and not isinstance(node.args[1], (int, float)):
            return False
        node = node.args[0]
    if not _is(node, function) or not _is(node.args[0], aten.cat.default):
        return False
    parts = node.args[0].args[0]
    return len(parts) == 2 and parts[0] is parts[1] and node.args[0].args[1:] in ((-1,), (2,))


# ------------------------------------------------------------ emitting


def plain_norm(at: Scope, x: Typed, weight: Typed, eps: float) -> Sequence[ir.Value]:
    return [at.op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=float(eps), stash_type=1, name="norm")]


def skip_norm(at: Scope, a: Typed, b: Typed, weight: Typed, eps: float) -> Sequence[ir.Value]:
    """The sum and its norm; the two middle results (mean, deviation) are for training."""
    made = at.ops(
        "SkipSimplifiedLayerNormalization",
        *(a, b, weight),
        outputs=4,
        domain=CONTRIB,
        name="norm",
        epsilon=float(eps),
    )
    for unused in made[1:3]:
        unused.name = ""
    return [made[3], made[0]]


def rotate(at: Scope, q: Typed, cos: Typed, sin: Typed) -> Sequence[ir.Value]:
    """ORT looks cos and sin up by position: their rows are numbered here."""
    batch, heads, width, dim = q.shape
    rows = cos.shape[0] * width
    places = np.broadcast_to(np.arange(rows).reshape(cos.shape[0], width), (batch, width))
    tables = [at.constant(places, torch.int64), *(_half(at, x) for x in (cos, sin))]
    if width > 1:
        return [at.op("RotaryEmbedding", q, *tables, domain=CONTRIB, name="rotary")]
    flat = (batch, 1, heads * dim)  # one position: its heads lie in a row, as the layer in front gives them
    made = at.op(
        "RotaryEmbedding", at.reshape(q, flat), *tables, domain=CONTRIB, name="rotary", num_heads=heads,
        rotary_embedding_dim=dim,
    )  # fmt: skip
    return [at.reshape(Typed(at.shaped(made, flat), q.dtype, flat), q.shape)]


def linear_layers(at: Scope, parameters: Sequence[Sequence[Parameter | None]], x: Typed) -> Sequence[ir.Value] | None:
    """The results of layers (weight, bias), from one product; None where the weights do not lie together."""
    weights = [layer[0] for layer in parameters if layer[0] is not None]
    joined = at.joined_weights([w.name for w in weights], [w.tensor for w in weights])
    if joined is None:
        return None
    sizes = [w.tensor.shape[0] for w in weights]
    parts = at.ops("Split", product(at, x, joined, x.dtype, flip=True), at.ints(*sizes), outputs=len(sizes), axis=-1)
    biases = [layer[1] if len(layer) > 1 else None for layer in parameters]
    return [
        part if bias is None else at.op("Add", part, at.weight(bias.name, bias.tensor))
        for part, bias in zip(parts, biases, strict=True)
    ]


def block_layers(
    at: Scope, parameters: Sequence[Sequence[Parameter | None]], form: tuple[int, bool], x: Typed
) -> Sequence[ir.Value] | None:
    """The same of layers (codes, scale, least or None) in blocks; `form`: bits, and whether x may be rounded."""
    joined: list[Typed | None] = []
    for part in zip(*parameters, strict=True):
        known = [p for p in part if p is not None]
        joined.append(at.joined_weights([p.name for p in known], [p.tensor for p in known]) if known else None)
    codes, scale, least = joined
    if codes is None or scale is None or (least is None and parameters[0][2] is not None):
        return None
    sizes = [layer[0].tensor.shape[0] for layer in parameters if layer[0] is not None]
    out = Typed(x.value, x.dtype, (*x.shape[:-1], sum(sizes)))
    return at.ops(
        "Split", linear_blocks(at, out, x, codes, scale, least, *form), at.ints(*sizes), outputs=len(sizes), axis=-1
    )


def _half(at: Scope, x: Typed) -> ir.Value:
    rows, _, width, dim = x.shape

    def cut() -> ir.Value:
        return at.op("Slice", at.reshape(x, (rows * width, dim)), at.ints(0), at.ints(dim // 2), at.ints(1))

    return at.once(("half", x.value), cut)
