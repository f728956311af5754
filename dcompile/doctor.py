"""What this machine can build and run."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict
from importlib import metadata
from typing import Any

from dcompile import cache
from dcompile.version import VERSION

PACKAGES = (
    "numpy", "onnxruntime", "tokenizers", "torch", "transformers", "lark", "onnx", "onnx-ir", "safetensors", "gguf",
    "apache-tvm",
)  # fmt: skip
COMPILER = ("torch", "transformers", "lark", "safetensors")

# What a target needs beyond `COMPILER` to be built, and what to be run; the extra that brings a package.
BUILDS = {"eager": (), "onnx": ("onnx", "onnx-ir"), "cpu": (), "cuda": (), "tvm": ("apache-tvm",)}
RUNS = {
    "eager": ("torch",),
    "onnx": ("onnxruntime",),
    "cpu": ("torch", "safetensors"),
    "cuda": ("torch", "safetensors"),
    "tvm": ("apache-tvm",),
}
EXTRAS = {"apache-tvm": "dcompile[tvm]", "onnxruntime": "dcompile"}


def report(measure: bool = False) -> dict[str, Any]:
    """Machine, package versions and targets, as plain values; `measure`: the machine's rates are taken anew."""
    versions = {name: version(name) for name in PACKAGES}
    return {
        "machine": machine(),
        "measured": rates(measure, versions),
        "cache": cache.usage(),
        "packages": {"dcompile": VERSION, **versions},
        "targets": {
            name: {"build": state(name, (*COMPILER, *BUILDS[name]), versions), "run": state(name, RUNS[name], versions)}
            for name in BUILDS
        },
    }


def rates(measure: bool, versions: dict[str, str | None]) -> dict[str, Any] | None:
    """What was measured of the machine (`dcompile.machine`), None where nothing was."""
    if versions["onnxruntime"] is None:
        return None
    from dcompile import machine

    found = machine.measure() if measure else machine.known()
    return None if found is None else asdict(found)


def version(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def state(target: str, needs: tuple[str, ...], versions: dict[str, str | None]) -> str:
    """`ready`, or what to do about it."""
    if missing := [name for name in needs if versions.get(name) is None]:
        return f"needs {', '.join(missing)}: pip install {EXTRAS.get(missing[0], 'dcompile[build]')}"
    if target == "cuda" and not has_gpu():
        return "needs an NVIDIA GPU"
    if target in ("cpu", "tvm") and "lark" in needs and shutil.which(os.environ.get("CXX", "g++")) is None:
        return "needs a C++ compiler (g++)"
    return "ready"


def machine() -> dict[str, Any]:
    """Python, system, processors, memory in GB, GPU."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(pages / 1e9, 1),
        "gpu": has_gpu(),
    }


def has_gpu() -> bool:
    """Whether torch sees an NVIDIA GPU."""
    if version("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
