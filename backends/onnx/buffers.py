"""Runs a graph that writes caches in place: a buffer is its input and its result. Needs numpy and onnxruntime alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

KEY = "in_place"  # in the metadata of an .onnx file: inputs over which their results may be written, with commas
OUT = ".out"  # ends the name of a result that has the name of an input

Arrays = dict[str, np.ndarray]


def names_in_place(session: ort.InferenceSession) -> list[str]:
    """What a graph may write over its inputs."""
    names = session.get_modelmeta().custom_metadata_map.get(KEY, "")
    return names.split(",") if names else []


class Buffers:
    """A session whose results `names` are written into the arrays that were given: these are what `run` gives back.
    All else has buffers of its own, bound once: what goes in and comes out is small, and is copied."""

    def __init__(self, session: ort.InferenceSession, names: Sequence[str]) -> None:
        self._session, self._names = session, list(names)
        kept = {*names, *(name + OUT for name in names)}
        self._inputs = {i.name: _buffer(i) for i in session.get_inputs() if i.name not in kept}
        self._results = {o.name: _buffer(o) for o in session.get_outputs() if o.name not in kept}
        self.forget()

    def forget(self) -> None:
        """Hold the arrays no longer: new ones may take their memory, whose pages are known to the system."""
        self._given: list[np.ndarray] = []
        self._binding = self._session.io_binding()

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Results by name; the arrays of `names` are changed."""
        self._bind([inputs[name] for name in self._names])
        for name, buffer in self._inputs.items():
            np.copyto(buffer, inputs[name], casting="no")
        self._session.run_with_iobinding(self._binding)
        made = {name.removesuffix(OUT): buffer.copy() for name, buffer in self._results.items()}
        return made | dict(zip(self._names, self._given, strict=True))

    def _bind(self, arrays: list[np.ndarray]) -> None:
        """Bind all; from one step to the next the arrays are the same, and stay bound."""
        if len(self._given) == len(arrays) and all(a is b for a, b in zip(arrays, self._given, strict=True)):
            return
        self._given = [np.require(a, requirements=("C", "W")) for a in arrays]
        self._binding = self._session.io_binding()
        for name, array in [*self._inputs.items(), *zip(self._names, self._given, strict=True)]:
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        kept = ((name + OUT, array) for name, array in zip(self._names, self._given, strict=True))
        for name, array in [*self._results.items(), *kept]:
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))


DTYPES = {"float": "float32", "double": "float64"}  # ONNX Runtime's names, where NumPy has others


def _buffer(port: Any) -> np.ndarray:
    """An array for an input or a result: shapes of a Program's graphs are fixed."""
    name = port.type.removeprefix("tensor(").removesuffix(")")
    return np.zeros(port.shape, DTYPES.get(name, name))
