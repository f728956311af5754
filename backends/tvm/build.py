"""Compile the straight-line graphs of a Program with TVM: one library with a function a graph, or its source in C, and
one weights file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import tvm
from safetensors.torch import save_file
from torch import Tensor, fx
from tvm import relax
from tvm.support.cc import create_shared

from dcompile.artifact import Machine
from dcompile.backends import ports
from dcompile.backends.base import BLOCKS, Backend
from dcompile.backends.tvm import source
from dcompile.backends.tvm.files import LIBRARY, SOURCES, WEIGHTS
from dcompile.backends.tvm.importer import convert, supports
from dcompile.backends.tvm.machine import Code, code, host
from dcompile.backends.tvm.quiet import without_lines
from dcompile.diagnostic import Diagnostic, Label
from dcompile.passes.base import Stage
from dcompile.passes.common_subexpressions import CommonSubexpressions
from dcompile.passes.select_branches import SelectBranches
from dcompile.program import COND, WHILE, Program

PIPELINE = (
    relax.transform.DeadCodeElimination(),  # transposes that a kernel reads through
    relax.backend.DispatchSortScan(),
    relax.transform.LegalizeOps(),
    relax.transform.AnnotateTIROpPattern(),
    relax.transform.FoldConstant(),
    relax.transform.FuseOps(),
    relax.transform.FuseTIR(),
    relax.transform.RewriteDataflowReshape(),
    relax.transform.ToNonDataflow(),
    relax.transform.RemovePurityChecking(),
    relax.transform.CallTIRRewrite(),
    relax.transform.StaticPlanBlockMemory(),
    relax.transform.LowerAllocTensor(),
    relax.transform.KillAfterLastUse(),
    relax.transform.LowerRuntimeBuiltin(),
    relax.transform.ComputePrimValue(),
    relax.transform.VMShapeLower(),
    relax.transform.AttachGlobalSymbol(),
)


@dataclass(frozen=True)
class TVM(Backend):
    """Code for straight-line graphs: the host runs the loop."""

    name: ClassVar[str] = "tvm"
    loops: ClassVar[tuple[str, ...]] = ("step",)
    quantises: ClassVar[tuple[str, ...]] = BLOCKS
    stages: ClassVar[tuple[Stage, ...]] = (  # a Relax function has no branches
        Stage("tvm", (SelectBranches(), CommonSubexpressions())),
    )
    code: Code = field(default_factory=host)

    def compiling_for(self, machine: str) -> TVM:
        return TVM(code(machine))

    @property
    def machine(self) -> Machine:
        return self.code.described()

    def missing(self, program: Program) -> Sequence[Diagnostic]:
        """One diagnostic for loops and branches, or else one for each kind of op that has no conversion, or for what
        linking needs."""
        nodes = [n for g in program.graphs for n in g.module.graph.nodes]
        for node in nodes:
            if node.target in (WHILE, COND):
                return [_loop(node)]
        gaps: dict[Any, fx.Node] = {}
        for node in nodes:
            if not supports(node):
                gaps.setdefault(node.target, node)
        return [_gap(node) for node in gaps.values()] or self.code.missing()

    def build(self, program: Program, folder: Path) -> dict[str, str]:
        """Write `program.so` or C source, `weights.safetensors` and `graphs.json`."""
        with torch.no_grad():
            imported = convert(program.graphs, vectors=not self.code.is_source)
        file = compile_module(imported.module, self.code, folder)
        weights: dict[str, Tensor] = {}
        extra = {}
        for name, used in imported.weights.items():
            extra[name] = {"weights": [_store(name, key, tensor, weights) for key, tensor in used]}
        save_file(weights, folder / WEIGHTS)
        ports.write(folder, program.graphs, extra)
        return {g.name: file for g in program.graphs}


def compile_module(module: tvm.IRModule, code: Code, folder: Path) -> str:
    """Compile Relax functions to one shared library, or to C; the name of the file."""
    target = code.target
    with target, without_lines("Unknown pragma pragma_scope"):  # TVM marks its scatters so, and does not know the mark
        module = tvm.transform.Sequential(PIPELINE)(module)
        how = "compiled" if code.is_source else "bytecode"  # of the functions that call the kernels
        executable = relax.build(module, target=target, relax_pipeline=None, exec_mode=how)
    if code.is_source:
        executable.export_library(str(folder / "source.tar"), fcompile=source.write)
        return SOURCES[0]
    executable.export_library(str(folder / LIBRARY), fcompile=_link, cc=code.linker)
    return LIBRARY


def _link(library: str, objects: Sequence[str], cc: str, **_: Any) -> None:
    """A shared library, without names that only a debugger reads."""
    create_shared(library, list(objects), options=["-s"], cc=cc)


def _store(graph: str, key: str, tensor: Tensor, weights: dict[str, Tensor]) -> str:
    """Put a weight into `weights` unless the same tensor is there; the name under which it lies."""
    tensor = tensor.detach().cpu().contiguous()
    for name, other in weights.items():
        if other.data_ptr() == tensor.data_ptr() and other.shape == tensor.shape:
            return name
    name = key if key not in weights else f"{graph}.{key}"
    weights[name] = tensor
    return name


def _loop(node: fx.Node) -> Diagnostic:
    help = "build with `--loop step`: the host runs the loop, and each call of the model is a graph of its own"
    return Diagnostic("loop-not-supported", "the target `tvm` runs no loops", _label(node, "this loops"), help=help)


def _gap(node: fx.Node) -> Diagnostic:
    title = f"the target `tvm` has no form of `{node.target}`"
    return Diagnostic("unsupported-op", title, _label(node, "needed here"), help="choose the target `onnx` or `cpu`")


def _label(node: fx.Node, text: str) -> Label | None:
    span = node.meta.get("span")
    return Label(span, text) if span is not None else None
