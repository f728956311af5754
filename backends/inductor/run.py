"""Run packages that `backends/inductor/build.py` made; needs torch as a runtime, and compiles nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch._inductor import aoti_load_package

from dcompile.backends import ports

MARKS = "DCOMPILE_MARKS"  # set while a package first runs, its kernels become records of torch's profiler (marks.py)


class Executable:
    """Loaded graphs. Outputs may share memory with inputs that a graph hands through."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self._signatures = ports.read(folder)
        self._models = {name: aoti_load_package(str(folder / file)) for name, file in files.items()}
        self._weights: dict[str, Tensor] = load_file(folder / "weights.safetensors")
        for name, model in self._models.items():
            device = model.get_metadata()["AOTI_DEVICE_KEY"]
            places: dict[str, str] = self._signatures[name].extra["weights"]
            for place in places.values():
                self._weights[place] = self._weights[place].to(device)
            given = {constant: self._weights[place] for constant, place in places.items()}
            model.load_constants(given, check_full_update=True, user_managed=True)
        self._devices = {name: model.get_metadata()["AOTI_DEVICE_KEY"] for name, model in self._models.items()}

    def run(self, graph: str, inputs: Mapping[str, npt.NDArray[np.generic]]) -> ports.Arrays:
        """Run one graph; a wrong dtype or shape is a ValueError."""
        signature, device = self._signatures[graph], self._devices[graph]
        tensors = [torch.from_numpy(array).to(device) for array in ports.arrange(signature, inputs)]
        results = self._models[graph].loader.boxed_run(tensors)
        return {p.name: r.cpu().numpy() for p, r in zip(signature.outputs, results, strict=True)}

    def close(self) -> None:
        """Let go of the code and the weights."""
        self._models.clear()
        self._weights.clear()


def load(folder: Path, files: Mapping[str, str], threads: int | None = None) -> Executable:
    """Open the packages in `folder`, by the graphs' names; `threads` is of the whole process, as torch has it."""
    if threads is not None:
        torch.set_num_threads(threads)
    return Executable(folder, files)
