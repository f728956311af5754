"""Runs a Program node by node in torch: the living definition of every operation, and of loops and branches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, fx

import dcompile.ops  # noqa: F401  (defines the operations that graphs name)
from dcompile import transcript
from dcompile.backends import weights
from dcompile.diagnostic import error
from dcompile.program import COND, WHILE, attribute

Arrays = dict[str, np.ndarray]


def interpret(module: fx.GraphModule, *inputs: Tensor, check: bool = False) -> tuple[Tensor, ...]:
    """Run a graph of a Program on tensors. `check` holds each result against the fake tensor in `meta["val"]`:
    an AssertionError names the node whose dtype or shape differs."""
    with torch.inference_mode():
        return _run(module, inputs, check)


def _run(module: fx.GraphModule, inputs: Sequence[Tensor], check: bool) -> tuple[Tensor, ...]:
    env: dict[fx.Node, Any] = {}
    given = iter(inputs)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            env[node] = next(given)
        elif node.op == "get_attr":
            env[node] = attribute(module, str(node.target))
        elif node.op == "output":
            found = fx.map_arg(node.args[0], env.__getitem__)
            return (found,) if isinstance(found, Tensor) else tuple(found)
        else:
            env[node] = _call(node, env, check)
        if check and node.op != "get_attr":
            _compare(node, env[node])
    raise AssertionError("a graph without an output")


def _call(node: fx.Node, env: dict[fx.Node, Any], check: bool) -> Any:
    args: Any = fx.map_arg(node.args, env.__getitem__)
    if node.target is WHILE:
        return _loop(*args, check=check)
    if node.target is COND:
        return _branch(*args, check=check)
    kwargs: Any = fx.map_arg(node.kwargs, env.__getitem__)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _loop(
    cond: fx.GraphModule,
    body: fx.GraphModule,
    carried: Sequence[Tensor],
    captured: Sequence[Tensor] = (),
    *,
    check: bool,
) -> tuple[Tensor, ...]:
    state = tuple(carried)
    while bool(_run(cond, (*state, *captured), check)[0]):
        state = _run(body, (*state, *captured), check)
    return state


def _branch(
    test: Tensor, yes: fx.GraphModule, no: fx.GraphModule, operands: Sequence[Tensor] = (), *, check: bool
) -> tuple[Tensor, ...]:
    return _run(yes if bool(test) else no, operands, check)


def _compare(node: fx.Node, value: Any) -> None:
    fake = node.meta.get("val")
    pairs = zip(fake, value, strict=True) if isinstance(fake, (tuple, list)) else [(fake, value)]
    for want, have in pairs:
        if isinstance(want, Tensor):
            expected, found = (want.dtype, tuple(want.shape)), (have.dtype, tuple(have.shape))
            assert expected == found, f"{node.format_node()}: expected {expected}, found {found}"


# ------------------------------------------------------------ artifacts


class Executable:
    """The graphs of a folder; each is read when it is first run."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self._folder = folder
        self._files = dict(files)
        self._graphs: dict[str, tuple[Any, fx.GraphModule]] = {}
        self._weights: dict[str, Tensor] | None = None

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Results by name; inputs that the graph does not know are left aside."""
        ports, module = self._graph(graph)
        given = [
            torch.as_tensor(np.asarray(inputs[name]), dtype=getattr(torch, dtype)).reshape(shape)
            for name, dtype, shape in ports["inputs"]
        ]
        found = interpret(module, *given)
        return {name: value.numpy() for name, value in zip(ports["outputs"], found, strict=True)}

    def close(self) -> None:
        self._graphs.clear()

    def _graph(self, name: str) -> tuple[Any, fx.GraphModule]:
        if name not in self._graphs:
            path = self._folder / self._files[name]
            try:
                if self._weights is None:
                    self._weights = weights.read(self._folder)
                content = json.loads(path.read_text(encoding="utf-8"))
                self._graphs[name] = content, transcript.read(content["module"], self._weights)
            except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as reason:
                raise error("broken-artifact", f"`{path}` cannot be loaded: {reason}", "build it again") from reason
        return self._graphs[name]


def load(folder: Path, files: Mapping[str, str], threads: int | None = None) -> Executable:
    """Open the graphs of an artifact (graph name -> file). `threads` sets torch's number for the whole process."""
    if threads is not None:
        torch.set_num_threads(threads)
    return Executable(Path(folder), files)
