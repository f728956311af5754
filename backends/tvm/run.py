"""Run a library that `backends/tvm/build.py` made; needs the TVM runtime and NumPy, no torch."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from safetensors.numpy import load_file
from tvm.runtime.vm import VirtualMachine
from tvm_ffi.libinfo import find_dlpack_include_path, find_include_path

from dcompile.backends import ports
from dcompile.backends.tvm.files import LIBRARY, SOURCES, WEIGHTS
from dcompile.diagnostic import error


class Executable:
    """Loaded graphs; weights are held once, whatever number of graphs use them."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        device = tvm.cpu()
        self._signatures = ports.read(folder)
        held = {name: tvm.runtime.tensor(array) for name, array in load_file(folder / WEIGHTS).items()}
        machines = {
            file: VirtualMachine(tvm.runtime.load_module(str(_library(folder, file))), device)
            for file in set(files.values())
        }
        self._functions = {name: machines[file][name] for name, file in files.items()}
        self._returned: dict[int, Any] = {}
        self._weights: dict[str, list[Any]] = {
            name: [held[key] for key in self._signatures[name].extra["weights"]] for name in files
        }

    def run(self, graph: str, inputs: Mapping[str, npt.NDArray[np.generic]]) -> ports.Arrays:
        """Run one graph; a wrong dtype or shape is a ValueError."""
        signature = self._signatures[graph]
        tensors = [self._tensor(array) for array in ports.arrange(signature, inputs)]
        results = self._functions[graph](*tensors, *self._weights[graph])
        return {p.name: self._array(r) for p, r in zip(signature.outputs, results, strict=True)}

    def _array(self, tensor: Any) -> npt.NDArray[np.generic]:
        """A result for the host. It cannot be written to, so where it comes back, the tensor itself will do: caches are
        not copied to and fro each step."""
        array: npt.NDArray[np.generic] = tensor.numpy()
        array.flags.writeable = False
        at = id(array)
        self._returned[at] = tensor
        weakref.finalize(array, self._returned.pop, at, None).atexit = False
        return array

    def _tensor(self, array: npt.NDArray[np.generic]) -> Any:
        return self._returned[id(array)] if id(array) in self._returned else tvm.runtime.tensor(array)

    def close(self) -> None:
        """Let go of the code and the weights."""
        self._functions.clear()
        self._weights.clear()


def _library(folder: Path, file: str) -> Path:
    """The shared library; where the artifact holds C source, what its user has compiled of it."""
    if not file.endswith(".c") or (folder / LIBRARY).is_file():
        return folder / (LIBRARY if file.endswith(".c") else file)
    places = [tvm.libinfo.find_include_path(), find_include_path(), find_dlpack_include_path()]
    include = " ".join(f"-I{place}" for place in dict.fromkeys(places))
    command = f"cd {folder} && cc -O3 -w -shared -fPIC {include} {' '.join(SOURCES)} -o {LIBRARY} -lm"
    raise error("not-compiled", f"`{folder}` holds C source, and no {LIBRARY} made of it", f"compile it: {command}")


def load(folder: Path, files: Mapping[str, str], threads: int | None = None) -> Executable:
    """Open the library in `folder`; `threads` is of the whole process, as TVM has it."""
    if threads is not None:
        tvm.get_global_func("runtime.config_threadpool")(1, threads)
    return Executable(folder, files)
