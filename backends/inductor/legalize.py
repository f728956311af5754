"""Make a graph acceptable to torch.export and AOTInductor without changing what it computes.

- `lift_weights`: tracing a loop body may not meet a real tensor, so weights enter bodies as captured operands.
- `unalias`: loops and branches may not see one tensor twice, nor hand an operand back as a result.
- `reshape_views`: strides in the fakes of a rewritten graph may be stale; `reshape` does not depend on them.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from dcompile.passes.expand import ATEN, expand
from dcompile.program import COND, WHILE, submodules

aten = torch.ops.aten
MAY_ALIAS = {aten.reshape.default, aten.contiguous.default, aten.flatten.using_ints, aten.expand_as.default}


def legalize(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of `module` in the form that export takes; weights are shared with the original."""
    copied = expand(module, ATEN)
    reshape_views(copied)
    lift_weights(copied)
    unalias(copied)
    return copied


def reshape_views(module: fx.GraphModule) -> None:
    """`view` and `_unsafe_view` become `reshape`, at every depth, in place."""
    for _, _, inner in submodules(module):
        reshape_views(inner)
    for node in module.graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default
    module.recompile()


def lift_weights(module: fx.GraphModule) -> None:
    """Turn each tensor attribute read inside a loop or branch into an operand of it, in place, innermost first."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in (WHILE, COND):
            continue
        inners = [inner for owner, _, inner in submodules(module) if owner is node]
        for inner in inners:
            lift_weights(inner)
        weights: dict[int, tuple[str, Tensor, fx.Node]] = {}
        for inner in inners:
            for read in _weight_reads(inner):
                tensor = _attribute(inner, str(read.target))
                weights.setdefault(id(tensor), (str(read.target), tensor, read))
        for inner in inners:
            _take_as_operands(inner, list(weights))
        _pass_operands(module, node, list(weights.values()))
    module.graph.lint()
    module.recompile()


def _weight_reads(module: fx.GraphModule) -> list[fx.Node]:
    reads = module.graph.find_nodes(op="get_attr")
    return [n for n in reads if isinstance(_attribute(module, str(n.target)), Tensor)]


def _attribute(module: torch.nn.Module, name: str) -> object:
    value: object = module
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _take_as_operands(inner: fx.GraphModule, order: list[int]) -> None:
    """Append one placeholder for each tensor of `order` (by identity) and read it instead of the attribute."""
    reads: dict[int, list[fx.Node]] = {key: [] for key in order}
    for read in _weight_reads(inner):
        reads[id(_attribute(inner, str(read.target)))].append(read)
    last = inner.graph.find_nodes(op="placeholder")[-1]
    for position, key in enumerate(order):
        with inner.graph.inserting_after(last):
            last = inner.graph.placeholder(f"weight_{position}")
        for read in reads[key]:
            last.meta.update(read.meta)
            read.replace_all_uses_with(last)
            inner.graph.erase_node(read)
    inner.recompile()


def _pass_operands(module: fx.GraphModule, node: fx.Node, weights: list[tuple[str, Tensor, fx.Node]]) -> None:
    with module.graph.inserting_before(node):
        operands = []
        for name, tensor, read in weights:
            operand = module.graph.get_attr(_place(module, name, tensor))
            operand.meta.update(read.meta)
            operands.append(operand)
    node.args = (*node.args[:3], (*node.args[3], *operands))


def _place(module: fx.GraphModule, name: str, tensor: Tensor) -> str:
    """The name under which `module` holds `tensor`; it is put there if it is not."""
    candidate, number = name, 0
    while True:
        try:
            found = _attribute(module, candidate)
        except AttributeError:
            _assign(module, candidate, tensor)
            return candidate
        if found is tensor:
            return candidate
        number += 1
        candidate = f"{name}_{number}"


def _assign(module: torch.nn.Module, name: str, tensor: Tensor) -> None:
    *path, leaf = name.split(".")
    for part in path:
        if not hasattr(module, part):
            module.add_module(part, torch.nn.Module())
        module = getattr(module, part)
    if isinstance(tensor, torch.nn.Parameter):
        module.register_parameter(leaf, tensor)
    else:
        module.register_buffer(leaf, tensor)


def unalias(module: fx.GraphModule) -> None:
    """Copy operands given twice to one loop or branch, and results that share memory with an operand or each other."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in (WHILE, COND):
            for owner, role, inner in submodules(module):
                if owner is node:
                    unalias(inner)
                    _copy_results(inner, keep_placeholders=False)
            _copy_operands(module, node)
    module.graph.lint()
    module.recompile()


def _copy_operands(module: fx.GraphModule, node: fx.Node) -> None:
    seen: set[fx.Node] = set()

    def once(operand: fx.Node) -> fx.Node:
        base = _base(operand)
        if base not in seen:
            seen.add(base)
            return operand
        return _clone(module.graph, operand, node)

    groups = [[once(x) for x in group] for group in _operand_groups(node)]
    node.args = (*node.args[: 4 - len(groups)], *[tuple(g) for g in groups])


def _operand_groups(node: fx.Node) -> list[list[fx.Node]]:
    return [list(group) for group in node.args[2:4]] if node.target is WHILE else [list(node.args[3])]


def _copy_results(module: fx.GraphModule, keep_placeholders: bool) -> None:
    output = module.graph.output_node()
    seen: set[fx.Node] = set()
    results = []
    single = isinstance(output.args[0], fx.Node)
    for value in [output.args[0]] if single else list(output.args[0]):
        base = _base(value)
        if base.op in ("placeholder", "get_attr") or base in seen:
            value = _clone(module.graph, value, output)
        seen.add(base)
        results.append(value)
    output.args = (results[0] if single else tuple(results),)
    module.recompile()


def _base(node: fx.Node) -> fx.Node:
    """The node whose memory `node` may share."""
    while node.op == "call_function" and (node.target in MAY_ALIAS or getattr(node.target, "is_view", False)):
        first = node.args[0]
        assert isinstance(first, fx.Node)
        node = first
    return node


def _clone(graph: fx.Graph, value: fx.Node, before: fx.Node) -> fx.Node:
    with graph.inserting_before(before):
        copy = graph.call_function(aten.clone.default, (value,), {"memory_format": torch.contiguous_format})
    copy.meta.update(value.meta)
    return copy
