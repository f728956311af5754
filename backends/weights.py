"""The one weights file of an artifact: each tensor once, whatever the number of graphs that use it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, fx

from dcompile.program import Program, modules

FILE = "weights.safetensors"
SMALL = 1024  # bytes; anything smaller is written into the graph that uses it


@dataclass(frozen=True)
class Region:
    """Where a tensor's bytes lie in the weights file."""

    name: str
    offset: int
    length: int


def attribute(module: fx.GraphModule, path: str) -> object:
    """The value of a dotted `get_attr` target."""
    found: object = module
    for part in path.split("."):
        found = getattr(found, part)
    return found


def tensors_of(program: Program) -> Iterable[tuple[str, Tensor]]:
    """Every tensor that a graph of the program reads by name, in order, with repetitions."""
    for graph in program.graphs:
        for module in modules(graph.module):
            for node in module.graph.find_nodes(op="get_attr"):
                value = attribute(module, str(node.target))
                if isinstance(value, Tensor):
                    yield str(node.target), value


def write(program: Program, folder: Path, small: int = SMALL) -> dict[int, Region]:
    """Write `weights.safetensors`; the region of each tensor object, by `id`. Equal storage is written once."""
    from safetensors.torch import save_file

    places: dict[tuple[object, ...], str] = {}
    stored: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    for name, tensor in tensors_of(program):
        if tensor.numel() * tensor.element_size() < small:
            continue
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if key not in places:
            places[key] = _unused(name, stored)
            stored[places[key]] = tensor.detach().cpu().contiguous()
        names[id(tensor)] = places[key]
    path = folder / FILE
    save_file(_apart(stored), path)
    regions = _regions(path)
    return {identity: regions[name] for identity, name in names.items()}


def _unused(name: str, taken: dict[str, Tensor]) -> str:
    count, unique = 0, name
    while unique in taken:
        count += 1
        unique = f"{name}.{count}"
    return unique


def _apart(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share storage: copy the later ones (views of one weight)."""
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        whole = tensor.untyped_storage()
        shared = whole.data_ptr() in seen or whole.nbytes() != tensor.numel() * tensor.element_size()
        seen.add(whole.data_ptr())
        apart[name] = tensor.clone() if shared else tensor
    return apart


def _regions(path: Path) -> dict[str, Region]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return {
        name: Region(name, 8 + size + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors of an artifact's weights file."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(folder / FILE)
    return tensors
