"""Compile the graphs of a Program with AOTInductor: one `.pt2` a graph, all sharing one weights file."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import torch
from torch import Tensor, fx
from torch._inductor import aot_compile
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.package.package import package_aoti
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._subclasses import FakeTensorMode
from torch.export.pt2_archive._package_weights import Weights
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._filelock import FileLock

from dcompile.backends import ports, weights
from dcompile.backends.base import BLOCKS, Backend
from dcompile.backends.inductor import kernels, marks
from dcompile.backends.inductor.legalize import legalize
from dcompile.backends.inductor.mend import mended
from dcompile.backends.inductor.move import move
from dcompile.backends.inductor.pack_blocks import PackBlocks
from dcompile.backends.inductor.roll_layers import RollLayers
from dcompile.backends.inductor.store_in_place import StoreInPlace
from dcompile.diagnostic import Diagnostic
from dcompile.passes.base import Stage
from dcompile.passes.select_branches import SelectBranches
from dcompile.program import Graph, Program, modules

if TYPE_CHECKING:
    from dcompile.models import Model

# Nothing here may change a result: no fast-math (Inductor's default), no autotuning. Threads are counted at run time,
# not baked in; line tables and frame pointers would only add paths of the build machine.
OPTIONS: dict[str, Any] = {
    "aot_inductor.package": True,
    "aot_inductor.package_constants_in_so": False,
    "aot_inductor.package_constants_on_disk_format": "pickle_weights",
    "aot_inductor.enable_line_tables": False,
    "aot_inductor.enable_frame_pointer": False,
    "cpp.dynamic_threads": True,
    "cpp.enable_unsafe_math_opt_flag": False,
    "cpp.enable_floating_point_contract_flag": "off",
    "use_pre_grad_passes": False,  # they look for torch's functions, of which ours has none, at a third of the time
    "realize_opcount_threshold": 6,  # by default Threefry is inlined into itself: six times the time to compile
    # A loop of no turn hands on the very memory it was given, and Inductor, which does not know, would write over it.
    "allow_buffer_reuse": False,
    "inplace_buffers": False,
    "max_autotune": False,
    "aot_inductor.compile_wrapper_opt_level": "Og",  # -O1 takes far more time, for nothing
    "cpp.min_chunk_size": 4096,  # to wake a thread takes as long as some thousand elements
    "fallback_random": True,
}


WIDE = 128  # slots of a prompt that are stored at a time


class Inductor(Backend):
    """AOTInductor for one device."""

    device: ClassVar[str]
    quantises: ClassVar[tuple[str, ...]] = ("bfloat16",)
    stages = (Stage("inductor", (SelectBranches(attending=True),)),)  # with layers in branches it crashes

    def missing(self, program: Program) -> Sequence[Diagnostic]:
        try:
            get_cpp_compiler()
        except Exception:
            help = "install g++ or clang++, or name one in the variable CXX"
            return [Diagnostic("no-compiler", f"the target `{self.name}` needs a C++ compiler", help=help)]
        return []

    def build(self, program: Program, folder: Path) -> dict[str, str]:
        """Write `<graph>.pt2` for each graph, `weights.safetensors` and `graphs.json`."""
        files, extra = {}, {}
        held: dict[str, Tensor] = {}
        for graph in program.graphs:
            files[graph.name] = f"{graph.name}.pt2"
            constants = compile_graph(graph, self.device, folder / files[graph.name])
            extra[graph.name] = {"weights": _store(graph.name, constants, held)}
        # Those of an odd size last: what stands behind one would not be aligned.
        aligned = sorted(held, key=lambda name: held[name].nbytes % weights.ALIGNMENT != 0)
        weights.save(folder / weights.FILE, {name: held[name] for name in aligned})
        ports.write(folder, program.graphs, extra)
        return files


class CPU(Inductor):
    """Code for the processor of the machine that builds."""

    name = "cpu"
    device = "cpu"
    in_place = ("inside", "block")
    quantises = (*Inductor.quantises, *BLOCKS)
    rounds = True
    stages = (Stage("inductor", (*Inductor.stages[0].passes, PackBlocks(), StoreInPlace(), RollLayers())),)

    def chunk(self, models: Sequence[Model], batch: int, capacity: int) -> int | None:
        return WIDE if batch == 1 else None  # rows of several prompts are multiplied whether they hold something or not


class CUDA(Inductor):
    """Code for the GPU of the machine that builds."""

    name = "cuda"
    device = "cuda"

    def missing(self, program: Program) -> Sequence[Diagnostic]:
        if not torch.cuda.is_available():
            help = "build on a machine with an NVIDIA GPU and a CUDA build of torch, or choose the target `cpu`"
            return [Diagnostic("no-gpu", "the target `cuda` needs a GPU, and torch finds none", help=help)]
        return super().missing(program)


def compile_graph(graph: Graph, device: str, path: Path) -> dict[str, Tensor]:
    """Compile one graph to the package `path`; the constants it must be given when it is loaded, by name.

    A weight of the graph comes back as the very tensor that the graph holds, so that graphs can share it.
    """
    own = _own_kernels() if device == "cpu" else nullcontext()
    with torch.no_grad(), _quiet(), mended(), own, _scratch(graph) as scratch:
        held, produced = _compiled(graph, device, scratch)
        made = {k: v for w in produced if isinstance(w, Weights) for k, (v, _) in w.items()}
        packed = scratch / path.name
        package_aoti(str(packed), [f for f in produced if isinstance(f, str) and not f.endswith(".cpp")])
        _deflate(packed, path)
    return {name: held.get(name, tensor).detach().cpu() for name, tensor in made.items()}


def _deflate(packed: Path, path: Path) -> None:
    """A package as torch writes it, in fewer bytes."""
    with ZipFile(packed) as whole, ZipFile(path, "w") as small:
        for entry in whole.infolist():
            kept = ZipInfo(entry.filename, entry.date_time)
            small.writestr(kept, whole.read(entry), ZIP_DEFLATED)


def _compiled(graph: Graph, device: str, scratch: Path) -> tuple[dict[str, Tensor], list[Any]]:
    """The tensors that the graph holds by name, and the files and weights that Inductor made of it."""
    own = kernels.OPTIONS if device == "cpu" else {}
    module = legalize(graph.module, kernels.SHIMS if device == "cpu" else ())
    held = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
    if device != "cpu":
        move(module, device)
    examples = _fresh_fakes(module, graph, device)
    options = {**OPTIONS, **own, "aot_inductor.output_path": str(scratch / "aoti")}
    produced = aot_compile(module, examples, options=options)
    assert isinstance(produced, list)
    return held, produced


@contextmanager
def _own_kernels() -> Iterator[None]:
    """With kernels of our own, and marks by which all kernels are known."""
    with kernels.linked(), marks.marked():
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings of its own code."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


@contextmanager
def _scratch(graph: Graph) -> Iterator[Path]:
    """A folder in torch's own cache whose path depends on the graph alone: the compiled code names its sources."""
    text = "\n".join(str(m.graph) for m in modules(graph.module)) + repr((graph.name, graph.inputs, graph.outputs))
    root = Path(cache_dir()) / "dcompile"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    with FileLock(f"{folder}.lock"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _fresh_fakes(module: fx.GraphModule, graph: Graph, device: str) -> tuple[Tensor, ...]:
    """Forget what nodes know of their values, and give the inputs new fakes: Inductor asks for a ShapeEnv in loops."""
    for inner in modules(module):
        for node in inner.graph.nodes:
            node.meta = marks.noted(node)
    with FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True, static_shapes=True):
        fakes = [torch.empty(p.shape, dtype=getattr(torch, p.dtype), device=device) for p in graph.inputs]
    for node, fake in zip(module.graph.find_nodes(op="placeholder"), fakes, strict=True):
        node.meta["val"] = fake
    return tuple(fakes)


def _store(graph: str, constants: dict[str, Tensor], stored: dict[str, Tensor]) -> dict[str, str]:
    """Put each constant into `stored` unless the same tensor is there; where each lies, by its name in the graph."""
    places = {}
    known = {(t.data_ptr(), t.shape, t.dtype): name for name, t in stored.items() if t.numel()}
    for name, tensor in sorted(constants.items()):
        tensor = tensor.contiguous()
        key = (tensor.data_ptr(), tensor.shape, tensor.dtype)
        if key not in known:
            known[key] = name if name not in stored else f"{graph}.{name}"
            stored[known[key]] = tensor
        places[name] = known[key]
    return places
