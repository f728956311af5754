"""What ONNX Runtime's profiler tells of a run: the time of each kernel, what it reads and writes, where it comes from.

The emitter begins the name of a node with where it comes from (docs/explain.md), and the optimizer keeps that beginning
or puts something behind it; so a part is read off the name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcompile.models.parts import PARTS

CONTROL = ("Loop", "If", "Scan")
PREFILL, CACHE, RULE, LOOP = "prefill", "cache", "rule", "loop"
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulNBits", "MatMulInteger")
ENDING = "_kernel_time"
HELD = 1 << 20  # bytes; a smaller tensor that was just made is still in the processor's cache


@dataclass(frozen=True)
class Event:
    """A kernel that ran, of the node `name`: seconds, the bytes that it must fetch from or bring to memory, its
    operations."""

    name: str
    part: str
    kind: str
    seconds: float
    bytes: int
    operations: int


def read(file: Path) -> tuple[list[Event], float]:
    """The kernels of a profile, and the seconds of all runs."""
    events = json.loads(file.read_text(encoding="utf-8"))
    runs = sum(e["dur"] for e in events if e.get("cat") == "Session" and e["name"] == "model_run")
    return list(_kernels(events)), runs / 1e6


def _kernels(events: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(ENDING):
            continue
        kind = event["args"]["op_name"]
        if kind not in CONTROL:  # the nodes of their bodies count by themselves
            moved, operations = cost(kind, event["args"])
            yield Event(
                event["name"].removesuffix(ENDING), part(event["name"]), kind, event["dur"] / 1e6, moved, operations
            )


def part(name: str) -> str:
    """The part that a node belongs to, by its name: a part of the model, `prefill` (all that stores the prompt),
    `cache` (what a call does besides the model: masks, positions, storing), `rule` (lines of the strategy), `loop`."""
    place, *rest = name.split("/")
    if place == "prefill":
        return PREFILL
    if rest and rest[0] in (*PARTS, CACHE):
        return rest[0]
    return RULE if place[:1] == "L" and place[1:].isdecimal() and rest else LOOP


def cost(kind: str, args: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes and operations of a kernel, by the shapes that it ran on."""
    taken, given = _shapes(args.get("input_type_shape", ())), _shapes(args.get("output_type_shape", ()))
    held, taken_bytes, given_bytes = (int(args.get(f"{k}_size", 0)) for k in ("parameter", "activation", "output"))
    small = sum(n for n in (taken_bytes, given_bytes) if n > HELD)
    if kind in PRODUCTS and taken and given and given[0]:
        return _product(kind, taken, given[0], held, small)
    if kind == "Attention" and len(taken) > 2 and len(taken[0]) == 4:
        _, heads, rows, dim = taken[0]
        slots = sum(shape[-2] for shape in taken[1:] if len(shape) == 4 and shape[-1] == dim) // 2
        return taken_bytes, 4 * taken[0][0] * heads * rows * slots * dim
    if kind == "GroupQueryAttention" and given:  # of the caches as far as the bias goes, its last input
        (_, groups, _, dim), *_, (*_, slots) = [shape for shape in taken if len(shape) == 4]
        return 2 * 4 * groups * slots * dim, 4 * math.prod(given[0]) * slots
    if kind.startswith("Gather"):  # of a table only what is looked up
        return 2 * given_bytes, 0
    return (held if held > HELD else 0) + small, math.prod(given[0]) if given else 0


def _product(kind: str, taken: list[list[int]], given: list[int], held: int, small: int) -> tuple[int, int]:
    inner = taken[0][-1] if taken[0] else 1
    operations = 2 * math.prod(given) * inner
    if len(taken) > 1 and len(taken[1]) > 2 and not held and kind != "MatMulNBits":
        return small, operations  # two activations
    if kind == "MatMulNBits":
        return max(held, given[-1] * inner // 2 + given[-1] * inner // 32 * 4) + small, operations
    return max(held, given[-1] * inner * 4) + small, operations  # weights that are packed are not among its inputs


def _shapes(described: Iterable[Mapping[str, list[int]]]) -> list[list[int]]:
    return [shape for one in described for shape in one.values()]
