"""A run of an artifact explained: per part what was measured and what a roofline allows; tokens and bytes of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dcompile.artifact import Artifact
from dcompile.diagnostic import error
from dcompile.explain.events import LOOP, PREFILL, Event, Profile
from dcompile.machine import Machine
from dcompile.models.parts import PARTS
from dcompile.result import Result
from dcompile.session import load

ORDER = (*PARTS, "cache", "rule", LOOP)
PROFILERS = {"onnx": "dcompile.explain.onnx", "cpu": "dcompile.explain.inductor"}  # by target


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
    copied: float | None  # bytes that loops copy, of a call; None where the runtime does not copy what they carry
    copying: float | None  # seconds that this takes at least
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
            "copied_bytes": self.copied, "copying_ms": None if self.copying is None else 1e3 * self.copying,
            "parts": [
                {
                    "part": s.name, "measured_ms": 1e3 * s.measured, "predicted_ms": 1e3 * s.predicted,
                    "bound": s.bound, "kernels": s.kernels, "bytes": s.bytes, "operations": s.operations,
                }
                for s in self.shares
            ],
        }  # fmt: skip


def explain(artifact: Artifact, machine: Machine, prompt: str | Sequence[int], tokens: int, threads: int) -> Explained:
    """Run an artifact twice, plainly and under its runtime's profiler, and account for the second run."""
    profiled = profiler(artifact)
    plain = load(artifact.folder, threads)
    result = plain.generate(prompt, max_new_tokens=tokens, eos_ids=[], temperature=0.0)
    del plain
    profile = profiled(artifact, prompt, tokens, threads)
    calls = max(result.model_calls, 1)
    prefill = sum(e.seconds for e in profile.events if e.part == PREFILL)
    rest = [e for e in profile.events if e.part != PREFILL]
    shares = tuple(share(name, [e for e in rest if e.part == name], machine, threads, calls) for name in ORDER)
    between = max(0.0, profile.seconds - prefill - sum(e.seconds for e in rest)) / calls
    copied = None if profile.copied is None else profile.copied / calls
    copying = None if copied is None else copied / machine.copy
    return Explained(result, prefill, between, copied, copying, tuple(s for s in shares if s.kernels))


def profiler(artifact: Artifact) -> Callable[[Artifact, str | Sequence[int], int, int], Profile]:
    """What runs an artifact under the profiler of its runtime; refused where we read none."""
    target = artifact.manifest.target
    if target not in PROFILERS:
        title = f"target `{target}` tells nothing of its kernels"
        raise error("cannot-explain", title, "build the strategy for `onnx` or `cpu` and explain that")
    found: Callable[[Artifact, str | Sequence[int], int, int], Profile] = import_module(PROFILERS[target]).profiled
    return found


def share(name: str, events: Sequence[Event], machine: Machine, threads: int, calls: int) -> Share:
    """A part's kernels beside the roofline: each takes as long as its bytes or its operations, whichever is longer, and
    what a node costs at least."""
    reading, node = machine.at(machine.read, threads), machine.node
    sums = {"memory": 0.0, "arithmetic": 0.0, "nodes": node * len(events)}
    for event in events:
        rate = machine.at(machine.int4 if event.rough else machine.float32, threads)
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
