"""graphs.json: what a graph takes and gives, in order, for loaders that must not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dcompile.program import Graph

FILE = "graphs.json"
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Place:
    """A port of a compiled graph: name, NumPy dtype name, shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """The ports of a graph, in the order of its arguments and results; `extra` is the backend's own."""

    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    extra: Mapping[str, Any]


def write(folder: Path, graphs: tuple[Graph, ...], extra: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write graphs.json; the same graphs give the same bytes."""
    table = {
        g.name: {
            "inputs": [[p.name, p.dtype, list(p.shape)] for p in g.inputs],
            "outputs": [[p.name, p.dtype, list(p.shape)] for p in g.outputs],
            "extra": dict((extra or {}).get(g.name, {})),
        }
        for g in graphs
    }
    (folder / FILE).write_text(json.dumps(table, sort_keys=True, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Signature]:
    """The signatures in graphs.json, by the name of the graph."""
    table = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return {
        name: Signature(
            tuple(Place(n, d, tuple(s)) for n, d, s in entry["inputs"]),
            tuple(Place(n, d, tuple(s)) for n, d, s in entry["outputs"]),
            entry["extra"],
        )
        for name, entry in table.items()
    }


def arrange(signature: Signature, inputs: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.generic]]:
    """The inputs in the order of the graph, contiguous; dtypes and shapes are checked, since compiled code does not."""
    arrays = []
    for place in signature.inputs:
        array = np.asarray(inputs[place.name])
        if array.dtype != np.dtype(place.dtype) or array.shape != place.shape:
            raise ValueError(
                f"input `{place.name}` must be {place.dtype}{list(place.shape)}, got {array.dtype}{list(array.shape)}"
            )
        arrays.append(array if array.flags.c_contiguous else np.ascontiguousarray(array))
    return arrays
