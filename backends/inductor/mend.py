"""Faults of Inductor in torch 2.13, mended while it compiles, and a choice for which it has no option."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import fx
from torch._higher_order_ops import utils
from torch._inductor import config, ir
from torch._inductor.codegen.cpp import CppKernel
from torch._inductor.codegen.cpp_wrapper_cpu import CppWrapperCpu
from torch._inductor.loop_body import LoopBody
from torch._inductor.scheduler import SchedulerNode

_recompute = SchedulerNode.recompute_size_and_body
_place: Callable[[LoopBody, str], Any] = LoopBody.get_read_expr
_depth: Callable[..., Any] = CppKernel.decide_parallel_depth
_write_loop: Callable[[Any, ir.WhileLoop, bool], None] = CppWrapperCpu.codegen_while_loop
_write_inputs: Callable[[Any, Any, Sequence[str], Sequence[str]], None] = CppWrapperCpu.codegen_subgraph_prefix


@contextmanager
def mended() -> Iterator[None]:
    """Compile with what is below in the place of Inductor's own."""
    from torch._inductor.fx_passes import post_grad  # imports half of torch, and warns of it

    with (
        mock.patch.object(SchedulerNode, "recompute_size_and_body", _recompute_and_rename),
        mock.patch.object(LoopBody, "get_read_expr", _place_if_read),
        mock.patch.object(CppKernel, "decide_parallel_depth", _depth_if_large),
        mock.patch.object(CppWrapperCpu, "codegen_while_loop", _name_views),
        mock.patch.object(CppWrapperCpu, "codegen_subgraph_prefix", _refer_to_inputs),
        mock.patch.object(utils, "_check_alias_and_mutation", _trust),
        mock.patch.object(import_module(f"{utils.__package__}.while_loop"), "_check_alias_and_mutation", _trust),
        mock.patch.object(post_grad, "remove_noop_ops", partial(_remove_and_part, post_grad.remove_noop_ops)),
    ):
        yield


def _recompute_and_rename(node: SchedulerNode, *args: Any, **kwargs: Any) -> None:
    """Reads of what another node writes into are named after the last write; a node whose loops are laid out anew to
    fit another's forgot that, and might run before the write (pytorch/pytorch#185509)."""
    _recompute(node, *args, **kwargs)
    node.set_read_writes(node.read_writes.rename(node.mutation_renames))


def _place_if_read(body: LoopBody, name: str) -> Any:
    """Where a loop reads a tensor; nowhere, if it only stores into it. Whether loops share a small buffer is decided by
    this, and failed with a KeyError for the target of a scatter."""
    try:
        return _place(body, name)
    except KeyError:
        return None


def _depth_if_large(kernel: CppKernel, *args: Any) -> Any:
    """Small loops are for one thread. With threads counted at run time (`dynamic_threads`) each loop wakes all
    and waits for them, which takes longer than most loops of a step."""
    with config.patch({"cpp.dynamic_threads": False}):
        return _depth(kernel, *args)


def _name_views(writer: Any, loop: ir.WhileLoop, stacked: bool = False) -> None:
    """A loop that reads a view from outside is written with an expression for it, once for its condition and once for
    its body; some give their tensor away, so that the second reading, and each of the next turn, finds freed memory."""
    references = [value.codegen_reference() for value in loop.additional_inputs or ()]
    for i, reference in enumerate(references):
        if not reference.isidentifier():
            references[i] = f"{loop.get_name()}_view{i}"
            writer.writeline(f"auto {references[i]} = {reference};")
    named = [mock.Mock(codegen_reference=mock.Mock(return_value=reference)) for reference in references]
    with mock.patch.object(loop, "additional_inputs", named):
        _write_loop(writer, loop, stacked)


def _refer_to_inputs(writer: Any, subgraph: ir.Subgraph, given: Sequence[str], made: Sequence[str]) -> None:
    """A loop makes new handles of all that it is given, hundreds of weights, each turn: here it has references to them,
    where it does not hand them on."""
    assert subgraph.graph is not None
    inputs = subgraph.graph.graph_inputs
    results = {result.get_name() for result in subgraph.graph.graph_outputs}
    others: dict[str, str] = {}
    for name, reference in zip(inputs, given, strict=True):
        if reference.isidentifier() and reference not in made and name not in results:
            writer.writeline(f"[[maybe_unused]] auto& {name} = {reference};")
            writer.freed.add(name)  # by whoever owns it, not here
        else:
            others[name] = reference
    rest = SimpleNamespace(graph=SimpleNamespace(graph_inputs={name: inputs[name] for name in others}))
    _write_inputs(writer, rest, list(others.values()), made)


def _trust(*args: Any) -> None:
    """Whether graphs of loops and branches give what they are given is asked by tracing each anew, for a fifth of the
    time; `legalize.unalias` has seen to it that they do not."""


def _remove_and_part(remove: Callable[[fx.Graph], None], graph: fx.Graph) -> None:
    """Two copies of one value may both be taken for needless, so that a graph gives the value twice; a loop then hands
    on its memory for the first, and nothing for the second."""
    from torch._inductor.fx_utils import get_node_storage

    remove(graph)
    output = graph.output_node()
    values: Any = output.args[0]
    if not isinstance(values, tuple | list):
        return
    seen: set[object] = set()
    apart: list[Any] = []
    for value in values:
        memory = get_node_storage(value) if isinstance(value, fx.Node) else None
        apart.append(_copy(graph, value, output) if memory is not None and memory in seen else value)
        seen.add(memory)
    output.args = (tuple(apart),)


def _copy(graph: fx.Graph, value: fx.Node, before: fx.Node) -> fx.Node:
    with graph.inserting_before(before):
        copy = graph.call_function(torch.ops.aten.clone.default, (value,))
    copy.meta.update(value.meta, val=value.meta["val"].clone())
    return copy
