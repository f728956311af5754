"""The eager target: the Program as JSON and its weights, run node by node by torch. Slow, and the plainest there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from dcompile import transcript
from dcompile.backends import weights
from dcompile.backends.base import BLOCKS, Backend
from dcompile.diagnostic import Diagnostic
from dcompile.program import Program

FORMAT = 1


class Eager(Backend):
    """Runs every operation that torch knows."""

    name: ClassVar[str] = "eager"
    quantises: ClassVar[tuple[str, ...]] = (*BLOCKS, "bfloat16")
    rounds: ClassVar[bool] = True

    def missing(self, program: Program) -> Sequence[Diagnostic]:
        return ()

    def build(self, program: Program, folder: Path) -> dict[str, str]:
        """One JSON file a graph, and the weights file."""
        folder.mkdir(parents=True, exist_ok=True)
        regions = weights.write(program, folder)

        def weight_name(path: str, tensor: Tensor) -> str | None:
            region = regions.get(id(tensor))
            return None if region is None else region.name

        files = {}
        for graph in program.graphs:
            ports = {
                "inputs": [[p.name, p.dtype, list(p.shape)] for p in graph.inputs],
                "outputs": [p.name for p in graph.outputs],
            }
            content = {"format": FORMAT, **ports, "module": transcript.write(graph.module, weight_name)}
            files[graph.name] = f"{graph.name}.graph.json"
            (folder / files[graph.name]).write_text(json.dumps(content), encoding="utf-8")
        return files
