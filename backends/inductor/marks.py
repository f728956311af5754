"""Marks around the kernels of a package, so that `dcompile explain` can say where time goes.

Where the variable `DCOMPILE_MARKS` is set while a package first runs, each kernel is a record of torch's profiler. Its
name says where it comes from, what it must fetch from memory, and how much it computes:

    L10.model/feed-forward/linear_rough|442368|1769472

Otherwise a mark is a branch. Attention knows only when it runs what it reads; it says so in a record inside of its own
(`cpp/marks.h`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any
from unittest import mock

from torch import fx
from torch._inductor.codegen.cpp import KernelGroup
from torch._inductor.codegen.cpp_wrapper_cpu import CppWrapperCpu
from torch._inductor.codegen.wrapper import ExternKernelOutLine
from torch._inductor.virtualized import V
from torch.utils.flop_counter import flop_registry

from dcompile.backends.inductor.blocks import EMBED_PACKED, LINEAR_PACKED
from dcompile.backends.inductor.run import MARKS
from dcompile.backends.inductor.tiles import EMBED_ROUGH, LINEAR_ROUGH
from dcompile.backends.origin import origin
from dcompile.machine import HELD
from dcompile.ops import AFTER, OWN, PICK, ROOM, STORE

KEPT = "custom"  # what of a node's meta torch hands on to all that it makes of the node
MATRICES = (LINEAR_PACKED, LINEAR_ROUGH)
FREE = (EMBED_PACKED, EMBED_ROUGH, OWN, ROOM, STORE)  # what they read of all they are given is little
SHIM = "aoti_torch_cpu_"
_NODE: ContextVar[Any] = ContextVar("node", default=None)  # whose call is being written

_call: Callable[[KernelGroup, Any, str], None] = KernelGroup.call_kernel
_call_extern: Callable[..., None] = CppWrapperCpu.generate_c_shim_extern_kernel_call
_WRITERS = (  # of the call of a kernel that Inductor does not write; they are given its node first, or hold it
    (CppWrapperCpu, "generate_c_shim_extern_kernel_alloc"),
    (CppWrapperCpu, "generate_c_shim_fallback_kernel"),
    (ExternKernelOutLine, "codegen"),
)


def noted(node: fx.Node) -> dict[str, Any]:
    """The meta by which a node's kernels are known."""
    return {KEPT: {"origin": origin(node)}}


@contextmanager
def marked() -> Iterator[None]:
    """Write marks around the kernels that Inductor calls meanwhile."""
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(KernelGroup, "call_kernel", _fused))
        patches.enter_context(mock.patch.object(CppWrapperCpu, _call_extern.__name__, _extern))
        for owner, name in _WRITERS:
            patches.enter_context(mock.patch.object(owner, name, _telling(getattr(owner, name))))
        yield


def _telling(write: Callable[..., None]) -> Callable[..., None]:
    """The writer of a line, with its node known to who writes the call inside of it."""

    def told(self: Any, given: Any, *rest: Any) -> None:
        token = _NODE.set(self.node if isinstance(self, ExternKernelOutLine) else given)
        try:
            write(self, given, *rest)
        finally:
            _NODE.reset(token)

    return told


def _fused(group: KernelGroup, writer: Any, kernel: str) -> None:
    moved: dict[str, int] = {}
    for node in group.scheduled_nodes:
        for name, size in node.get_read_write_buffer_accesses(include_reads=True, include_writes=True).items():
            moved[name] = max(size, moved.get(name, 0))
    read = sum(size for name, size in moved.items() if size > HELD and name not in V.graph.removed_buffers)
    nodes = [node.node for node in group.scheduled_nodes]
    with _mark(writer, nodes, kernel, read, max(math.prod(node.get_size()) for node in nodes)):
        _call(group, writer, kernel)


def _extern(writer: Any, kernel: str, args: list[str], *rest: Any, **options: Any) -> None:
    node = _NODE.get()
    name = kernel.removeprefix(SHIM).rpartition("::")[2]
    hands_on = getattr(node, "op_overload", None) in (AFTER, PICK)
    with nullcontext() if hands_on else _mark(writer, [] if node is None else [node], name, *_cost(node)):
        _call_extern(writer, kernel, args, *rest, **options)


@contextmanager
def _mark(writer: Any, nodes: Sequence[Any], kernel: str, bytes: int, operations: int) -> Iterator[None]:
    places = Counter(place for node in nodes if (place := _place(node)))
    place = next((name for name, _ in places.most_common(1)), "")
    record, text = "RAIIAtenRecordFunctionHandle", f'"{place}{kernel}|{bytes}|{operations}"'
    writer.writeline(f'{{ static const bool marked = std::getenv("{MARKS}") != nullptr;')
    writer.writeline(f"{record} mark = marked ? {record}({text}, nullptr) : {record}();")
    yield
    writer.writeline("}")


def _place(node: Any) -> str:
    """Where what Inductor computes comes from; of several operations in one it is the last that counts."""
    made = node.get_origin_node()
    origins = [made] if made is not None else reversed([*node.get_origins()])
    return next((name for n in origins if (name := n.meta.get(KEPT, {}).get("origin", ""))), "")


def _cost(kernel: Any) -> tuple[int, int]:
    """Bytes and operations of a kernel that Inductor does not write."""
    for node in kernel.get_origins() if kernel is not None else ():
        if node.target in MATRICES:
            x, codes, steps = (n.meta["val"] for n in node.all_input_nodes[:3])
            return codes.nbytes + steps.nbytes, 2 * node.meta["val"].numel() * x.shape[-1]
        if node.target in FREE:
            return 0, 0
        packet = getattr(node.target, "overloadpacket", None)
        if packet in flop_registry:
            given, named = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
            operations = flop_registry[packet](*given, **named, out_val=node.meta["val"])
            values = [n.meta["val"] for n in node.all_input_nodes]
            weights = max(v.nbytes for v in values) if all(v.ndim == 2 for v in values) else 0
            return max(weights, sum(v.nbytes for v in values if v.nbytes > HELD)), int(operations)
    return 0, 0
