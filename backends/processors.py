"""What processor compiled code needs, and whether this one has it. No compiler is imported: apps load with this."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from dcompile.artifact import Machine
from dcompile.diagnostic import error

SOURCE = "c"  # the triple of an artifact that holds C source

# Instructions that generated code may use and that a processor of the kind may lack: LLVM's name, and Linux's.
FEATURES = {
    "sse4.2": "sse4_2", "popcnt": "popcnt", "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "bmi2": "bmi2",
    "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512cd": "avx512cd", "avx512dq": "avx512dq",
    "avx512vl": "avx512vl", "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16", "avx512vnni": "avx512_vnni",
    "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2", "neon": "asimd", "lse": "atomics",
    "fullfp16": "asimdhp", "dotprod": "asimddp", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2",
}  # fmt: skip
ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


def architecture() -> str:
    """This machine's, as triples begin."""
    name = platform.machine().lower()
    return ALIASES.get(name, name)


@cache
def flags() -> frozenset[str] | None:
    """The instructions that this processor has, by Linux's names; None where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.lower().startswith(("flags", "features"))), None)
    return None if found is None else frozenset(found.partition(":")[2].split())


def lacking(features: Iterable[str]) -> list[str]:
    """Those of `features` (LLVM's names) that this processor has not."""
    here = flags()
    return [] if here is None else [f for f in features if FEATURES[f] not in here]


def check(machine: Machine | None) -> None:
    """Refuse an artifact whose code is another processor's, before any of it is loaded."""
    if machine is None or machine.triple == SOURCE:
        return
    if (wanted := machine.triple.split("-")[0]) != architecture():
        title = f"the artifact is compiled for {machine.triple}, and this machine is {architecture()}"
        raise error("other-machine", title, f"run it on {wanted}, or build it here without --machine")
    if missing := lacking(f for f in machine.features if f in FEATURES):
        title = f"the artifact is compiled for the processor `{machine.cpu}`, and this one has no {', '.join(missing)}"
        raise error("other-machine", title, f"build it here, or anywhere with --machine {machine.triple}")
