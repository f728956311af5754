"""An executable that asks of each graph whether what it may write in place matters to its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dcompile.backends.onnx.buffers import Arrays, names_in_place
from dcompile.backends.onnx.run import Executable, Plain

POISON = 1e4


@dataclass
class Poisoning:
    """Runs each graph twice, its caches copied: as they are, and with other numbers where they are about to be
    overwritten. `written`: the names of each graph, `rows` how many rows of caches were poisoned."""

    inner: Executable
    written: dict[str, list[str]] = field(default_factory=dict)
    rows: int = 0

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        session = self.inner.session(graph)
        self.written[graph] = names_in_place(session)
        want = Plain(session).run(inputs)
        given = dict(inputs)
        for name in self.written[graph]:
            changed = (want[name] != inputs[name]).any(-1)
            given[name] = np.where(changed[..., None], np.float32(POISON), inputs[name])
            self.rows += int(changed.sum())
        found = Plain(session).run(given)
        for name, value in want.items():
            assert np.array_equal(found[name], value), f"{graph} reads what it writes over, as `{name}` shows"
        return want
