"""Backends by name, imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dcompile.diagnostic import error, suggest

if TYPE_CHECKING:
    from dcompile.backends.base import Backend

BUILDERS: dict[str, str] = {
    "eager": "dcompile.backends.eager.build:Eager",
    "onnx": "dcompile.backends.onnx.build:ONNX",
    "cpu": "dcompile.backends.inductor.build:CPU",
    "cuda": "dcompile.backends.inductor.build:CUDA",
    "tvm": "dcompile.backends.tvm.build:TVM",
}
LOADERS: dict[str, str] = {
    "eager": "dcompile.backends.eager.run:load",
    "onnx": "dcompile.backends.onnx.run:load",
    "cpu": "dcompile.backends.inductor.run:load",
    "cuda": "dcompile.backends.inductor.run:load",
    "tvm": "dcompile.backends.tvm.run:load",
}

# The package of a missing import: what to call it, and the extra of ours that brings it ("" for the plain install).
PACKAGES: dict[str, tuple[str, str]] = {
    "torch": ("torch", "build"),
    "onnx": ("onnx", "build"),
    "onnx_ir": ("onnx-ir", "build"),
    "safetensors": ("safetensors", "build"),
    "onnxruntime": ("onnxruntime", ""),
    "tvm": ("apache-tvm", "tvm"),
}


def builder(name: str) -> Backend:
    """The build side of a target; `unknown-target` or `missing-package` when it cannot be had."""
    backend: Backend = _attribute(name, BUILDERS)()
    return backend


def loader(name: str) -> Any:
    """The function `load(folder, files, threads)` of a target; errors as `builder`."""
    return _attribute(name, LOADERS)


def _attribute(name: str, table: dict[str, str]) -> Any:
    if name not in table:
        raise error("unknown-target", f"unknown target `{name}`", suggest(name, table, "targets"))
    module, attribute = table[name].split(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as missing:
        package, extra = PACKAGES.get((missing.name or "").split(".")[0], ("", ""))
        if not package:
            raise
        install = f"pip install dcompile[{extra}]" if extra else "pip install dcompile"
        raise error("missing-package", f"target `{name}` needs {package}", install) from missing
