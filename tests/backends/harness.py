"""Runs one traced graph on every backend that the op suite covers: `BACKENDS[name](module, inputs) -> outputs`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, fx

from dcompile.backends import registry
from dcompile.backends.eager.run import interpret
from dcompile.model import Facts
from dcompile.program import Graph, Port, Program
from dcompile.strategy import Canvas, Strategy

Runner = Callable[[fx.GraphModule, Sequence[Tensor]], Sequence[Tensor]]

FACTS = Facts("test", "causal", False, 16, 8, 1, 1, 1, 8, 64, None, ())
STRATEGY = Strategy("test", (), (), Canvas("masked"), (), ())


def port(name: str, tensor: Tensor) -> Port:
    return Port(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def program_of(module: fx.GraphModule, name: str = "main") -> Program:
    """A program of one graph whose ports are `in_0 …` and `out_0 …`."""
    fakes = [n.meta["val"] for n in module.graph.find_nodes(op="placeholder")]
    results = module.graph.output_node().args[0]
    nodes = (results,) if isinstance(results, fx.Node) else tuple(results)  # type: ignore[arg-type]
    graph = Graph(
        name,
        module,
        tuple(port(f"in_{i}", f) for i, f in enumerate(fakes)),
        tuple(port(f"out_{i}", n.meta["val"]) for i, n in enumerate(nodes)),  # type: ignore[union-attr]
    )
    return Program(STRATEGY, FACTS, 1, 8, (graph,))


def through(target: str) -> Runner:
    """Build a graph for a target, load what was written, run it."""

    def run(module: fx.GraphModule, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        program = program_of(module)
        backend = registry.builder(target)
        assert not backend.missing(program), [str(d) for d in backend.missing(program)]
        with tempfile.TemporaryDirectory() as folder:
            files = backend.build(program, Path(folder))
            executable = registry.loader(target)(Path(folder), files, threads=1)
            arrays = {f"in_{i}": t.numpy() for i, t in enumerate(inputs)}
            found = executable.run("main", arrays)
            executable.close()
        return [torch.from_numpy(found[p.name].copy()) for p in program.graphs[0].outputs]

    return run


def in_memory(module: fx.GraphModule, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    return interpret(module, *inputs, check=True)


BACKENDS: dict[str, Runner] = {
    "memory": in_memory,
    "eager": through("eager"),
    "onnx": through("onnx"),
}
