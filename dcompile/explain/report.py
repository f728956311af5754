"""A run of an artifact explained: per part what was measured and what a roofline allows; tokens and bytes of text."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcompile.artifact import Artifact
from dcompile.backends.onnx.run import Executable
from dcompile.diagnostic import error
from dcompile.explain.copies import copied
from dcompile.explain.events import LOOP, PREFILL, Event, read
from dcompile.machine import Machine
from dcompile.models.parts import PARTS
from dcompile.result import Result
from dcompile.session import Session, load
from dcompile.text import open_text

ORDER = (*PARTS, "cache", "rule", LOOP)


@dataclass(frozen=True)
class Share:
    """A part of a step: seconds measured and predicted, kernels, bytes and operations, all of one call."""

    name: str
    measured: float
    predicted: float
    bound: str  # memory, arithmetic or nodes: what the prediction is made of most
    kernels: float
    bytes: float
    operations: float


@dataclass(frozen=True)
class Explained:
    """A run: seconds of the prefill's kernels, and of a call; its shares."""

    result: Result
    prefill: float
    between: float  # seconds of a call, under the profiler, in no kernel: copies of loops, starting nodes, the host
    copied: float  # bytes that loops copy, of a call
    copying: float  # seconds that this takes at least
    shares: tuple[Share, ...]

    @property
    def step(self) -> float:
        """Seconds of a call in kernels."""
        return sum(s.measured for s in self.shares)

    @property
    def predicted(self) -> float:
        return sum(s.predicted for s in self.shares)

    def as_json(self, machine: Machine) -> dict[str, Any]:
        result = self.result
        said = len((result.text or "").encode())
        return {
            "machine": machine.name, "tokens": len(result.output_ids), "calls": result.model_calls,
            "seconds": result.seconds, "tokens_per_second": len(result.output_ids) / result.seconds,
            "bytes_per_second": said / result.seconds, "prefill_ms": 1e3 * self.prefill,
            "step_ms": 1e3 * self.step, "predicted_ms": 1e3 * self.predicted, "between_ms": 1e3 * self.between,
            "copied_bytes": self.copied, "copying_ms": 1e3 * self.copying,
            "parts": [
                {
                    "part": s.name, "measured_ms": 1e3 * s.measured, "predicted_ms": 1e3 * s.predicted,
                    "bound": s.bound, "kernels": s.kernels, "bytes": s.bytes, "operations": s.operations,
                }
                for s in self.shares
            ],
        }  # fmt: skip


def explain(artifact: Artifact, machine: Machine, prompt: str | Sequence[int], tokens: int, threads: int) -> Explained:
    """Run an artifact twice, plainly and under ONNX Runtime's profiler, and account for the second run."""
    check(artifact)
    plain = load(artifact.folder, threads)
    result = plain.generate(prompt, max_new_tokens=tokens, eos_ids=[], temperature=0.0)
    del plain
    runs = _profiled(artifact, prompt, tokens, threads)
    events, seconds = [e for run in runs for e in run.events], sum(run.seconds for run in runs)
    calls = max(result.model_calls, 1)
    prefill = sum(e.seconds for e in events if e.part == PREFILL)
    rest = [e for e in events if e.part != PREFILL]
    shares = tuple(share(name, [e for e in rest if e.part == name], machine, threads, calls) for name in ORDER)
    between = max(0.0, seconds - prefill - sum(e.seconds for e in rest)) / calls
    moved = sum(copied(run.file, Counter(e.name for e in run.events)) for run in runs) / calls
    return Explained(result, prefill, between, moved, moved / machine.copy, tuple(s for s in shares if s.kernels))


def check(artifact: Artifact) -> None:
    """Refuse an artifact whose runtime has no profiler that we read."""
    target = artifact.manifest.target
    if target != "onnx":
        title = f"target `{target}` tells nothing of its kernels"
        raise error("cannot-explain", title, "build the strategy for `onnx` and explain that")


@dataclass(frozen=True)
class Run:
    """What the profiler told of a graph: its file, its kernels, the seconds of all its runs."""

    file: Path
    events: list[Event]
    seconds: float


def _profiled(artifact: Artifact, prompt: str | Sequence[int], tokens: int, threads: int) -> list[Run]:
    manifest = artifact.manifest
    with tempfile.TemporaryDirectory() as folder:
        files = {g.name: g.file for g in manifest.graphs}
        executable = Executable(artifact.folder, files, threads, profile=Path(folder))
        session = Session(artifact, executable, open_text(artifact.folder, manifest.model))
        session.generate(prompt, max_new_tokens=tokens, eos_ids=[], temperature=0.0)
        return [Run(artifact.file(files[name]), *read(file)) for name, file in executable.profiles().items()]


def share(name: str, events: Sequence[Event], machine: Machine, threads: int, calls: int) -> Share:
    """A part's kernels beside the roofline: each takes as long as its bytes or its operations, whichever is longer, and
    what a node costs at least."""
    reading, node = machine.at(machine.read, threads), machine.node
    sums = {"memory": 0.0, "arithmetic": 0.0, "nodes": node * len(events)}
    for event in events:
        rate = machine.at(machine.int4 if event.kind == "MatMulNBits" else machine.float32, threads)
        memory, arithmetic = event.bytes / reading, event.operations / rate
        sums["memory" if memory > arithmetic else "arithmetic"] += max(memory, arithmetic)
    return Share(
        name,
        sum(e.seconds for e in events) / calls,
        sum(sums.values()) / calls,
        max(sums, key=sums.__getitem__),
        len(events) / calls,
        sum(e.bytes for e in events) / calls,
        sum(e.operations for e in events) / calls,
    )
