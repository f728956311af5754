"""The manifest of a compiled program."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING

from dcompile.artifact import Canvas, GraphFile, Machine, Manifest, Port, Quantized, StrategyText
from dcompile.strategy import Draft, ForBlocks, Strategy, Write, session_states, stops_on_eos, walk
from dcompile.version import VERSION

if TYPE_CHECKING:
    from dcompile.program import Port as ProgramPort
    from dcompile.program import Program

TOOLS = ("torch", "transformers")
TARGET_TOOLS = {"onnx": ("onnx", "onnxruntime"), "tvm": ("apache-tvm",)}


def describe(
    program: Program, target: str, files: Mapping[str, str], rng: bool, quantize: str | None = None,
    activations: str = "float32", machine: Machine | None = None,
) -> Manifest:  # fmt: skip
    """Everything about a program that a host must know; `files` gives the file of each graph."""
    graphs = tuple(
        GraphFile(name=g.name, file=files[g.name], inputs=_ports(g.inputs), outputs=_ports(g.outputs))
        for g in program.graphs
    )
    return Manifest(
        strategy=_text(program.strategy),
        model=program.facts,
        others=dict(program.others),
        target=target,
        loop=program.loop,  # type: ignore[arg-type]  # one of the three: the compiler's door refuses others
        capacity=program.capacity,
        batch=program.batch,
        dtype="float32",
        quantized=None if quantize is None else Quantized(weights=quantize, activations=activations),  # type: ignore[arg-type]
        canvas=_canvas(program.strategy, program.overhang),
        has_rng=rng,
        stops_on_eos=stops_on_eos(program.strategy),
        graphs=graphs,
        state=_ports(program.state),
        session=_session(program),
        machine=machine,
        versions=_versions(TOOLS + TARGET_TOOLS.get(target, ())),
    )


def _text(strategy: Strategy) -> StrategyText:
    sha256 = hashlib.sha256(strategy.text.encode()).hexdigest()
    settings = {p.name: p.value for p in strategy.params}
    return StrategyText(name=strategy.name, text=strategy.text, sha256=sha256, settings=settings)


def _canvas(strategy: Strategy, overhang: int) -> Canvas:
    actions = {n.action for n in walk(strategy.body) if isinstance(n, Write)}
    canvas = strategy.canvas
    strict = [n for n in walk(strategy.body) if isinstance(n, ForBlocks) and n.short == "error"]
    return Canvas(
        init=canvas.init,
        multiple=canvas.multiple,
        multiple_from=canvas.multiple_from,
        whole_answer=math.lcm(*(n.size for n in strict if n.over == "answer")),
        whole_canvas=math.lcm(*(n.size for n in strict if n.over == "canvas")),
        drafts=max((n.tree.depth for n in walk(strategy.body) if isinstance(n, Draft)), default=0),
        overhang=overhang,
        revises=not actions.isdisjoint({"overwrite", "mask", "noise", "truncate"}),
    )


def _ports(ports: Iterable[ProgramPort]) -> tuple[Port, ...]:
    return tuple(Port(name=p.name, dtype=p.dtype, shape=p.shape) for p in ports)  # type: ignore[arg-type]


def _session(program: Program) -> tuple[Port, ...]:
    names = {f"session_{s.name}" for s in session_states(program.strategy)}
    return _ports(p for p in program.graphs[0].inputs if p.name in names)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {"dcompile": VERSION}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # the host of a target need not be the machine of its build
            continue
    return found
