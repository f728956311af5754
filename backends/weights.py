"""The one weights file of an artifact: each tensor once, whatever the number of graphs that use it.

The file is written here and not by the safetensors library, which sorts tensors by name: weights that are multiplied
together have to lie together, so that one initializer can span them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcompile import cache
from dcompile.models.kept import kept_file
from dcompile.program import Program, attribute, modules

FILE = "weights.safetensors"
SMALL = 1024  # bytes; anything smaller is written into the graph that uses it
ALIGNMENT = 64  # bytes; where the first tensor starts

DTYPES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Region:
    """Where a tensor's bytes lie in the weights file."""

    name: str
    offset: int
    length: int


def tensors_of(program: Program) -> Iterable[tuple[str, Tensor]]:
    """Every tensor that a graph of the program reads by name, in order, with repetitions."""
    for graph in program.graphs:
        for module in modules(graph.module):
            for node in module.graph.find_nodes(op="get_attr"):
                value = attribute(module, str(node.target))
                if isinstance(value, Tensor):
                    yield str(node.target), value


def write(program: Program, folder: Path, together: Iterable[Sequence[Tensor]] = ()) -> dict[int, Region]:
    """Write `weights.safetensors`; the region of each tensor object, by `id`. The same memory is written once.

    Tensors of a group in `together` lie side by side in its order, unless a larger or earlier group has taken one.
    """
    places: dict[tuple[object, ...], str] = {}
    stored: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    for name, tensor in tensors_of(program):
        if tensor.numel() * tensor.element_size() < SMALL:
            continue
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if key not in places:
            places[key] = _unused(name, stored)
            stored[places[key]] = tensor
        names[id(tensor)] = places[key]
    order = _ordered(list(stored), [[names[id(t)] for t in group if id(t) in names] for group in together])
    regions = save(folder / FILE, {name: stored[name] for name in order})
    return {identity: regions[name] for identity, name in names.items()}


def adjacent(regions: Sequence[Region | None]) -> Region | None:
    """The region that spans all of these, if they lie one behind another."""
    known = [r for r in regions if r is not None]
    if not known or len(known) < len(regions):
        return None
    if any(a.offset + a.length != b.offset for a, b in pairwise(known)):
        return None
    return Region("+".join(r.name for r in known), known[0].offset, sum(r.length for r in known))


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    count, unique = 0, name
    while unique in taken:
        count += 1
        unique = f"{name}.{count}"
    return unique


def _ordered(names: Sequence[str], groups: Iterable[Sequence[str]]) -> list[str]:
    """The names, each group at the place of its first member. Larger groups win: what a smaller one asks of the same
    tensors often lies in them anyway."""
    group_of: dict[str, Sequence[str]] = {}
    for group in sorted(groups, key=len, reverse=True):
        if not any(name in group_of for name in group):
            group_of |= dict.fromkeys(group, group)
    return list(dict.fromkeys(n for name in names for n in group_of.get(name, [name])))


def save(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Region]:
    """Write tensors in this order, one behind the other; the region of each."""
    entries: dict[str, Any] = {}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps(entries).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    if (same := kept_file(tensors.values(), struct.pack("<Q", len(header)) + header)) is not None:
        cache.copy(same, path)
    else:
        _write(path, header, tensors)
    start = 8 + len(header)
    spans = {name: entry["data_offsets"] for name, entry in entries.items()}
    return {name: Region(name, start + low, high - low) for name, (low, high) in spans.items()}


def _write(path: Path, header: bytes, tensors: Mapping[str, Tensor]) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors of an artifact's weights file."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(folder / FILE)
    return tensors
