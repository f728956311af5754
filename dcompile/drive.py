"""The host's side of a cut loop: the same few lines for every strategy."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dcompile.artifact import Manifest

DONE = -1
Arrays = dict[str, npt.NDArray[np.generic]]


class Executable(Protocol):
    """What a backend's loader gives: runs a graph of the artifact by its name."""

    def run(self, graph: str, inputs: Mapping[str, npt.NDArray[np.generic]]) -> Arrays: ...


@dataclass(frozen=True)
class Turn:
    """The state after a graph has run, whether it was the last one, and whether Ctrl-C was pressed meanwhile."""

    state: Arrays
    done: bool
    interrupted: bool


def turns(executable: Executable, manifest: Manifest, inputs: Arrays) -> Iterator[Turn]:
    """Run graph after graph; the caller stops by leaving the loop. While the loop is inside there is one turn."""
    state, at = dict(inputs), 0
    while at != DONE:
        graph = manifest.graphs[at]
        with held_interrupt() as pressed:
            state |= executable.run(graph.name, {p.name: state[p.name] for p in graph.inputs})
        at = int(state["next"].flat[0]) if manifest.loop != "inside" else DONE
        yield Turn(state, at == DONE, bool(pressed))


@contextmanager
def held_interrupt() -> Iterator[list[int]]:
    """Hold the first Ctrl-C back until the block ends, and tell of it; a second one raises at once."""
    pressed: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield pressed
        return

    def note(number: int, frame: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
