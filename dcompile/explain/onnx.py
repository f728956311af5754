"""A run under ONNX Runtime's profiler: its kernels, named after the nodes of the model, which the optimizer keeps in
front of what it puts behind; what each reads and computes, by the shapes that it ran on."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dcompile.artifact import Artifact
from dcompile.backends.onnx.run import Executable
from dcompile.explain.copies import copied
from dcompile.explain.events import Event, Profile
from dcompile.machine import HELD
from dcompile.session import Session
from dcompile.text import open_text

CONTROL = ("Loop", "If", "Scan")
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulNBits", "MatMulInteger")
ENDING = "_kernel_time"


def profiled(artifact: Artifact, prompt: str | Sequence[int], tokens: int, threads: int) -> Profile:
    """Answer a prompt, with eos ignored, and tell of all graphs that ran."""
    manifest = artifact.manifest
    found, whole, moved = [], 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        files = {g.name: g.file for g in manifest.graphs}
        executable = Executable(artifact.folder, files, threads, profile=Path(folder))
        session = Session(artifact, executable, open_text(artifact.folder, manifest.model))
        session.generate(prompt, max_new_tokens=tokens, eos_ids=[], temperature=0.0)
        for name, file in executable.profiles().items():
            events, seconds = read(file)
            found += events
            whole += seconds
            moved += copied(artifact.file(files[name]), Counter(e.name for e in events))
    return Profile(found, whole, moved)


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
            name = event["name"].removesuffix(ENDING)
            yield Event(name, event["dur"] / 1e6, moved, operations, rough=kind == "MatMulNBits")


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
