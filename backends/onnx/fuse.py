"""Patterns that ONNX Runtime has one kernel for: found in FX, emitted at one node; the rest falls away unused.

x · rsqrt(mean(x²) + eps) · w      ->  SimplifiedLayerNormalization
the same of a sum a + b            ->  SkipSimplifiedLayerNormalization, which gives the sum as well
q · cos + (−q₂, q₁) · sin          ->  RotaryEmbedding, when both halves of cos and sin are the same
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx

from dcompile.backends.onnx import rotary, screen
from dcompile.backends.onnx.blocks import linear_blocks
from dcompile.backends.onnx.fusion import Fusion, Parameter, parameter
from dcompile.backends.onnx.patterns import behind, called, factors, is_float32, shape
from dcompile.backends.onnx.products import product
from dcompile.backends.onnx.scope import CONTRIB, Scope, Typed
from dcompile.ops import LINEAR_BLOCKS
from dcompile.program import Program, attribute, modules

aten = torch.ops.aten


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
        turned = rotary.recognised(node)
        if turned is not None:
            found[node] = Fusion(rotary.rotate, turned, (node,))
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
        if all(place.op == "get_attr" for place in places) and is_float32(node) and not node.kwargs:
            groups.setdefault(node.args[0], []).append(node)
    return [g for g in groups.values() if 1 < len(g) == len({str(n.args[1].target) for n in g})]


def block_siblings(module: fx.GraphModule) -> list[list[Any]]:
    """The same of layers whose weights lie in blocks of one form."""
    groups: dict[Any, list[Any]] = {}
    for node in module.graph.find_nodes(op="call_function", target=LINEAR_BLOCKS):
        x, codes, _, least, bits, _ = node.args
        groups.setdefault((x, shape(codes)[1:], bits, least is None), []).append(node)
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


def _norm(node: fx.Node) -> tuple[fx.Node, fx.Node, float] | None:
    """(x, weight, eps) of a root-mean-square norm with its weight."""
    for weight, scaled in factors(node):
        if not isinstance(weight, fx.Node) or not is_float32(node) or shape(weight) != shape(node)[-1:]:
            continue
        for x, root in factors(scaled):
            if called(root, aten.rsqrt.default) and called(root.args[0], aten.add.Tensor, aten.add.Scalar):
                mean, eps = root.args[0].args[:2]
                if isinstance(eps, float) and _is_mean_square(mean, x) and shape(x) == shape(node):
                    return x, weight, eps
    return None


def _is_mean_square(mean: Any, x: Any) -> bool:
    if not called(mean, aten.mean.dim) or list(mean.args[1]) not in ([-1], [len(shape(x)) - 1]):
        return False
    square = mean.args[0]
    if called(square, aten.pow.Tensor_Scalar):
        return square.args[1] == 2 and behind(square.args[0]) is x
    return any(a is x and b is x for a, b in factors(square))


def _is_sum(node: Any) -> bool:
    """a + b of two activations of one shape, as SkipSimplifiedLayerNormalization takes them."""
    if not called(node, aten.add.Tensor) or len(node.args) != 2 or node.kwargs or len(shape(node)) != 3:
        return False
    return all(isinstance(a, fx.Node) and shape(a) == shape(node) and is_float32(a) for a in node.args)


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
