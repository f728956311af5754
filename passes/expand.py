"""Replace operations by what they mean in ATen, in a graph and in every graph inside it.

order(key)  ->  sort(key, stable=True, dim=-1, descending=True)[1]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, fx
from torch._guards import detect_fake_mode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from dcompile import ops
from dcompile.program import submodules

Meaning = Callable[..., Any]


def order_by_sort(key: Tensor) -> Tensor:
    """`dcompile::order` as one stable sort."""
    return torch.sort(key, stable=True, dim=-1, descending=True)[1]


ATEN: Mapping[Any, Meaning] = {
    torch.ops.dcompile.attend.default: ops.attend_parts,
    torch.ops.dcompile.order.default: order_by_sort,
    ops.EXP_SUMS: ops.exp_sums_plainly,
    ops.BEST: ops.best_plainly,
    ops.BEST_TWO: ops.best_two_plainly,
}


def copy_module(module: fx.GraphModule) -> fx.GraphModule:
    """A copy whose graphs, at every depth, may be edited; weights are shared, and fakes and spans kept."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    _copy_output_meta(module.graph, graph)
    copied = fx.GraphModule(module, graph)
    for _, _, inner in submodules(module):
        name = next(k for k, v in module.named_modules() if v is inner)
        setattr(copied, name, copy_module(inner))
    return copied


def expand(module: fx.GraphModule, table: Mapping[Any, Meaning] = ATEN) -> fx.GraphModule:
    """Replace each node whose target is in `table` by the trace of its meaning on the node's own fake values."""
    copied = copy_module(module)
    _expand_here(copied, table)
    return copied


def _expand_here(module: fx.GraphModule, table: Mapping[Any, Meaning]) -> None:
    for _, _, inner in submodules(module):
        _expand_here(inner, table)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in table:
            _replace(module, node, table[node.target])
    module.graph.lint()
    module.recompile()


def _replace(module: fx.GraphModule, node: fx.Node, meaning: Meaning) -> None:
    """Inline the trace of `meaning` in place of `node`; only tensors become inputs of the trace."""
    leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
    nodes = [leaf for leaf in leaves if isinstance(leaf, fx.Node)]

    def call(*tensors: Tensor) -> Any:
        given = iter(tensors)
        args, kwargs = pytree.tree_unflatten([next(given) if isinstance(x, fx.Node) else x for x in leaves], spec)
        return meaning(*args, **kwargs)

    values = [n.meta["val"] for n in nodes]
    with torch.no_grad(), detect_fake_mode(values) or nullcontext():  # what a meaning makes from nothing is fake too
        traced = make_fx(call, pre_dispatch=True)(*values)
    places = traced.graph.find_nodes(op="placeholder")
    env: dict[fx.Node, fx.Node] = dict(zip(places, nodes, strict=True))
    result: fx.Node | None = None
    with module.graph.inserting_before(node):
        for inner in traced.graph.nodes:
            if inner.op == "call_function":
                env[inner] = module.graph.node_copy(inner, env.__getitem__)
                _inherit(env[inner], node)
            elif inner.op == "output":
                result = env[inner.args[0]]
            else:
                assert inner.op == "placeholder", f"{node.target}: a meaning holds no constants, got {inner.op}"
    assert result is not None
    node.replace_all_uses_with(result)
    module.graph.erase_node(node)


def _inherit(new: fx.Node, old: fx.Node) -> None:
    for key in ("span", "call", "part", "stack_trace"):
        if key in old.meta:
            new.meta[key] = old.meta[key]


def _copy_output_meta(old: fx.Graph, new: fx.Graph) -> None:
    new.output_node().meta = dict(old.output_node().meta)
