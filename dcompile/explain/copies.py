"""What loops copy: ONNX Runtime copies each tensor that a loop carries, in every turn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def copied(file: Path, runs: Mapping[str, int]) -> int:
    """Bytes that the loops of a graph copied, but for those that store the prompt. `runs`: how often each node ran, by
    name: what ran most often in a body ran once a turn."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    total = 0
    for body in _bodies(graph):
        names = [node.name for node in body.node]
        if any(name.startswith("prefill/") for name in names):
            continue
        turns = max((runs.get(name, 0) for name in names), default=0)
        total += turns * sum(_size(value.type.tensor_type) for value in body.input[2:])
    return total


def _bodies(graph: Any) -> Iterator[Any]:
    """The bodies of all loops, those of inner ones too."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                if node.op_type == "Loop":
                    yield attribute.g
                yield from _bodies(attribute.g)


def _size(kind: Any) -> int:
    from onnx import helper

    count = math.prod(d.dim_value for d in kind.shape.dim)
    return int(count * helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize)
