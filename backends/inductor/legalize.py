"""Make a graph acceptable to AOTInductor without changing what it computes.

- `lift_weights`: tracing a loop body may not meet a real tensor, so weights enter bodies as captured operands.
- `unalias`: loops and branches may not see one tensor twice, nor hand an operand back as a result; and what a loop
  carries must have one layout before and after a turn. Copies that turn out to be needless fuse away in Inductor.
- `scalar_conditions`: a condition is one bool of shape [], not a tuple nor a vector of one.
- `reshape_views`: strides in the fakes of a rewritten graph may be stale; `reshape` does not depend on them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, fx

from dcompile.passes.expand import ATEN, expand
from dcompile.program import COND, WHILE, attribute, submodules

aten = torch.ops.aten
MAY_ALIAS = frozenset(
    {aten.reshape.default, aten.contiguous.default, aten.flatten.using_ints, aten.expand_as.default, aten.to.dtype}
)


def legalize(module: fx.GraphModule, kernels: Collection[Any] = ()) -> fx.GraphModule:
    """A copy of `module` in the form that AOTInductor takes; weights are shared with the original. `kernels`: the
    operations of our own that stay."""
    copied = expand(module, {target: meaning for target, meaning in ATEN.items() if target not in kernels})
    reshape_views(copied)
    lift_weights(copied)
    unalias(copied)
    scalar_conditions(copied)
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
    for node, inners in _controls(module):
        for inner in inners:
            lift_weights(inner)
        reads: dict[int, fx.Node] = {}
        for inner in inners:
            for read in _weight_reads(inner):
                reads.setdefault(id(attribute(inner, str(read.target))), read)
        operands = []
        with module.graph.inserting_before(node):
            for read in reads.values():
                tensor = attribute(read.graph.owning_module, str(read.target))  # type: ignore[arg-type]
                operand = module.graph.get_attr(_place(module, str(read.target), tensor))
                operand.meta.update(read.meta)
                operands.append(operand)
        for place in _places(node):
            inner = getattr(module, place)
            _take_as_operands(inner, list(reads))
            setattr(module, place, fx.GraphModule(inner, inner.graph))  # drops the attributes that nothing reads now
        groups = _operands(node)
        _set_operands(node, [*groups[:-1], [*groups[-1], *operands]])
    _finish(module)


def _weight_reads(module: fx.GraphModule) -> list[fx.Node]:
    reads = module.graph.find_nodes(op="get_attr")
    return [n for n in reads if isinstance(attribute(module, str(n.target)), Tensor)]


def _take_as_operands(inner: fx.GraphModule, order: list[int]) -> None:
    """Append one placeholder for each tensor of `order` (by identity) and read it instead of the attribute."""
    reads: dict[int, list[fx.Node]] = {key: [] for key in order}
    for read in _weight_reads(inner):
        reads[id(attribute(inner, str(read.target)))].append(read)
    last: fx.Node | None = next(iter(reversed(inner.graph.find_nodes(op="placeholder"))), None)
    for position, key in enumerate(order):
        anchor = inner.graph.inserting_after(last) if last is not None else inner.graph.inserting_before()
        with anchor:
            last = inner.graph.placeholder(f"weight_{position}")
        for read in reads[key]:
            last.meta.update(read.meta)
            read.replace_all_uses_with(last)
            inner.graph.erase_node(read)
    inner.recompile()


def _place(module: fx.GraphModule, name: str, tensor: object) -> str:
    """The name under which `module` holds `tensor`; it is put there if it is not."""
    candidate, number = name, 0
    while True:
        try:
            found = attribute(module, candidate)
        except AttributeError:
            _assign(module, candidate, tensor)
            return candidate
        if found is tensor:
            return candidate
        number += 1
        candidate = f"{name}_{number}"


def _assign(module: torch.nn.Module, name: str, tensor: object) -> None:
    *path, leaf = name.split(".")
    for part in path:
        if not hasattr(module, part):
            module.add_module(part, torch.nn.Module())
        module = getattr(module, part)
    if isinstance(tensor, torch.nn.Parameter):
        module.register_parameter(leaf, tensor)
    else:
        assert isinstance(tensor, Tensor)
        module.register_buffer(leaf, tensor)


def unalias(module: fx.GraphModule) -> None:
    """Copy what loops carry, what loops and branches give, and operands that are given twice."""
    for node, inners in _controls(module):
        for inner in inners:
            unalias(inner)
            output = inner.graph.output_node()
            (value,) = output.args
            if isinstance(value, fx.Node):
                output.args = (_clone(inner.graph, value, output),)
            else:
                output.args = (tuple(_clone(inner.graph, v, output) for v in _nodes(value)),)
            inner.recompile()
        *carried, others = _operands(node)
        carried = [[_clone(module.graph, value, node) for value in group] for group in carried]
        seen: set[object] = set()
        _set_operands(node, [*carried, [_distinct(module, value, seen, node) for value in others]])
    _finish(module)


def _distinct(module: fx.GraphModule, value: fx.Node, seen: set[object], before: fx.Node) -> fx.Node:
    """The value, or a copy of it if it may share memory with one in `seen`, which grows."""
    base = _base(value)
    memory = id(attribute(module, str(base.target))) if base.op == "get_attr" else base  # a weight may have two names
    if memory in seen:
        return _clone(module.graph, value, before)
    seen.add(memory)
    return value


def _base(node: fx.Node) -> fx.Node:
    """The node whose memory `node` may share."""
    while node.op == "call_function" and (node.target in MAY_ALIAS or getattr(node.target, "is_view", False)):
        (node,) = _nodes(node.args[:1])
    return node


def _clone(graph: fx.Graph, value: fx.Node, before: fx.Node) -> fx.Node:
    """A copy in memory of its own, laid out in the order of the axes."""
    with graph.inserting_before(before):
        copy = graph.call_function(aten.clone.default, (value,), {"memory_format": torch.contiguous_format})
    copy.meta.update(value.meta)
    return copy


def scalar_conditions(module: fx.GraphModule) -> None:
    """Make each loop's condition a graph that gives a bool of shape [], and each branch's test one, in place."""
    for node, inners in _controls(module):
        for inner in inners:
            scalar_conditions(inner)
        if node.target is WHILE:
            output = inners[0].graph.output_node()
            (test,) = _nodes([output.args[0]] if isinstance(output.args[0], fx.Node) else output.args[0])
            output.args = (_scalar(inners[0].graph, test, output),)
            _finish(inners[0])
        else:
            (test,) = _nodes(node.args[:1])
            node.args = (_scalar(module.graph, test, node), *node.args[1:])
    _finish(module)


def _scalar(graph: fx.Graph, test: fx.Node, before: fx.Node) -> fx.Node:
    if test.meta["val"].ndim == 0:
        return test
    with graph.inserting_before(before):
        scalar = graph.call_function(aten.reshape.default, (test, []))
    scalar.meta.update(test.meta, val=test.meta["val"].new_empty([]))
    return scalar


def _controls(module: fx.GraphModule) -> Iterator[tuple[fx.Node, list[fx.GraphModule]]]:
    """Each loop or branch of a graph, with the graphs that it runs."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in (WHILE, COND):
            yield node, [getattr(module, place) for place in _places(node)]


def _places(node: fx.Node) -> list[str]:
    """The names of the graphs that a loop or branch runs."""
    return [str(n.target) for n in _nodes(node.args[:2] if node.target is WHILE else node.args[1:3])]


def _operands(node: fx.Node) -> list[list[fx.Node]]:
    """What a loop carries and captures, or what a branch takes."""
    return [_nodes(group) for group in (node.args[2:4] if node.target is WHILE else node.args[3:4])]


def _set_operands(node: fx.Node, groups: list[list[fx.Node]]) -> None:
    node.args = (*node.args[: 4 - len(groups)], *[tuple(group) for group in groups])


def _nodes(values: Any) -> list[fx.Node]:
    assert all(isinstance(value, fx.Node) for value in values)
    return list(values)


def _finish(module: fx.GraphModule) -> None:
    module.graph.lint()
    module.recompile()
