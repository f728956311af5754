"""The onnx target: one `.onnx` file a graph, weights beside them in one safetensors file."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir
import torch
from torch import fx

from dcompile.backends import weights
from dcompile.backends.base import BLOCKS, Backend
from dcompile.backends.onnx import in_place, rows
from dcompile.backends.onnx.appending import AppendInAttention
from dcompile.backends.onnx.buffers import KEY
from dcompile.backends.onnx.emit import emit_graph
from dcompile.backends.onnx.fuse import weights_together
from dcompile.backends.onnx.live import LiveSlots
from dcompile.backends.onnx.scope import DTYPES, Model
from dcompile.backends.onnx.sink import SinkHead
from dcompile.backends.onnx.tables import HANDLERS
from dcompile.diagnostic import Diagnostic, Label
from dcompile.models import Model as Loaded
from dcompile.passes.base import Stage
from dcompile.program import COND, WHILE, Program, attribute, modules
from dcompile.stopwatch import part
from dcompile.trace import named_weights

IR_VERSION = 11  # that of opset 23

CONTROL = frozenset({WHILE, COND, operator.getitem})


class ONNX(Backend):
    """ONNX Runtime, from any language."""

    name: ClassVar[str] = "onnx"
    stages: ClassVar[tuple[Stage, ...]] = (Stage("onnx", (AppendInAttention(), LiveSlots(), SinkHead())),)
    loops: ClassVar[tuple[str, ...]] = ("inside", "block", "step")
    quantises: ClassVar[tuple[str, ...]] = BLOCKS
    in_place: ClassVar[tuple[str, ...]] = ("step",)  # into the host's
    rounds: ClassVar[bool] = True

    def chunk(self, models: Sequence[Loaded], batch: int, capacity: int) -> int | None:
        shapes = (w.shape for m in models for w in named_weights(m.backbone, m.head).values())  # no module is made
        return rows.chunk(rows.sizes([m.facts for m in models], shapes, batch, capacity), capacity)

    def missing(self, program: Program) -> Sequence[Diagnostic]:
        found: dict[str, Diagnostic] = {}
        for graph in program.graphs:
            for module in modules(graph.module):
                for node in module.graph.nodes:
                    problem = _unsupported(node)
                    if problem is not None:
                        found.setdefault(problem, _diagnostic(problem, node))
        return list(found.values())

    def build(self, program: Program, folder: Path) -> dict[str, str]:
        folder.mkdir(parents=True, exist_ok=True)
        with part("weights"):
            regions = weights.write(program, folder, weights_together(program))
        files = {}
        sizes = _sizes(program)
        for graph in program.graphs:
            with part("graphs"):
                emitted = emit_graph(Model(regions, weights.FILE, sizes=sizes), graph)
            names = in_place.in_place(graph) if program.loop == "step" else []
            metadata = {KEY: ",".join(names)} if names else None
            model = ir.Model(emitted, ir_version=IR_VERSION, producer_name="dcompile", metadata_props=metadata)
            files[graph.name] = f"{graph.name}.onnx"
            with part("writing graphs"):
                (folder / files[graph.name]).write_bytes(ir.serde.serialize_model(model).SerializeToString(True))
        return files


def _sizes(program: Program) -> frozenset[int]:
    """The sizes that `ONNX.chunk` went by, as far as the graphs hold them; none where rows of a batch lie together."""
    shapes = [
        tuple(tensor.shape)
        for graph in program.graphs
        for module in modules(graph.module)
        for node in module.graph.find_nodes(op="get_attr")
        if isinstance(tensor := attribute(module, str(node.target)), torch.Tensor)
    ]
    return rows.sizes([program.facts, *program.others.values()], shapes, program.batch, program.capacity)


def _unsupported(node: fx.Node) -> str | None:
    """What of a node ONNX cannot say, in words."""
    if node.op == "call_function" and node.target not in CONTROL and node.target not in HANDLERS:
        return f"the operation `{node.target}`"
    values = node.meta.get("val", ())
    for value in values if isinstance(values, (list, tuple)) else (values,):
        if isinstance(value, torch.Tensor) and value.dtype not in DTYPES:
            return f"tensors of dtype `{str(value.dtype).removeprefix('torch.')}`"
    return None


def _diagnostic(problem: str, node: fx.Node) -> Diagnostic:
    span = node.meta.get("span")
    label = None if span is None else Label(span, "needed here")
    title = f"target `onnx` has no form for {problem}"
    return Diagnostic("unsupported-op", title, label, help="build for `eager` or `cpu`, which run every operation")
