"""Runs the graphs of an artifact with ONNX Runtime. Needs numpy and onnxruntime alone: this is what an app deploys."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from dcompile.backends.onnx.buffers import OUT, Arrays, Buffers, names_in_place
from dcompile.diagnostic import error


class Executable:
    """The graphs of a folder; a session is made when its graph is first run."""

    def __init__(
        self, folder: Path, files: Mapping[str, str], threads: int | None = None, profile: Path | None = None
    ) -> None:
        """`profile`: a folder that each session writes its profile to."""
        self._folder = folder
        self._files = dict(files)
        self._threads = threads
        self._profile = profile
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._graphs: dict[str, Plain | Buffers] = {}
        self._entry = next(iter(files), "")

    def session(self, name: str) -> ort.InferenceSession:
        """The session of a graph; `broken-artifact` when ORT cannot read its file."""
        if name not in self._sessions:
            path = self._folder / self._files[name]
            try:
                self._sessions[name] = ort.InferenceSession(
                    str(path), options(self._threads, self._profile), providers=["CPUExecutionProvider"]
                )
            except Exception as reason:  # ORT raises a class of its own for each kind of damage
                raise error("broken-artifact", f"`{path}` cannot be loaded: {reason}", "build it again") from reason
        return self._sessions[name]

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Results by name; inputs that the graph does not know are left aside. What it writes in place
        (docs/artifact.md) is changed, and is the result of that name."""
        if graph not in self._graphs:
            session = self.session(graph)
            names = names_in_place(session)
            self._graphs[graph] = Buffers(session, names) if names else Plain(session)
        if graph == self._entry:
            for made in self._graphs.values():
                made.forget()
        return self._graphs[graph].run(inputs)

    def profiles(self) -> dict[str, Path]:
        """End profiling; the profile of each graph that was run."""
        return {name: Path(session.end_profiling()) for name, session in self._sessions.items()}

    def close(self) -> None:
        self._graphs.clear()
        self._sessions.clear()


class Plain:
    """A session whose results are arrays of their own."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._inputs = [i.name for i in session.get_inputs()]
        self._results = [o.name for o in session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        values = self._session.run(self._results, {name: np.asarray(inputs[name]) for name in self._inputs})
        return {name.removesuffix(OUT): value for name, value in zip(self._results, values, strict=True)}

    def forget(self) -> None:
        """It holds nothing."""


def options(threads: int | None = None, profile: Path | None = None) -> ort.SessionOptions:
    """One graph at a time, on `threads` threads (all cores without a number); only errors are logged."""
    made = ort.SessionOptions()
    made.log_severity_level = 3
    made.intra_op_num_threads = threads or 0
    made.inter_op_num_threads = 1
    made.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    if profile is not None:
        made.enable_profiling, made.profile_file_prefix = True, str(profile / secrets.token_hex(4))
    return made


def load(folder: Path, files: Mapping[str, str], threads: int | None = None) -> Executable:
    """Open the graphs of an artifact (graph name -> file)."""
    return Executable(Path(folder), files, threads)
