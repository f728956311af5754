"""What a generation gives back, read from the state that the graphs leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dcompile.artifact import Manifest
from dcompile.feed import Request, extent

Reason = Literal["eos", "length", "stop", "interrupted"]


@dataclass(frozen=True)
class Result:
    """One answer. `model_calls` counts the forwards of this row, `batch_calls` those of the whole batch,
    `positions_fed` the positions that the row's calls were fed, `committed_per_call` the answer positions that were
    last written by each of them. Where drafts are verified, `accepted_per_call` holds for each call that committed
    something how many drafted tokens it did, which is one less (the last one is the target's own), and
    `accepted_by_position` how many calls accepted a first drafted token, a second one, and so on. `text` ends before
    the first eos; it is None without a tokenizer.
    """

    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    text: str | None
    seed: int
    model_calls: int
    batch_calls: int
    positions_fed: int
    committed_per_call: tuple[int, ...]
    seconds: float
    finish_reason: Reason
    drafts: int = 0

    @property
    def accepted_per_call(self) -> tuple[int, ...]:
        return tuple(n - 1 for n in self.committed_per_call if n)

    @property
    def accepted_by_position(self) -> tuple[int, ...]:
        return tuple(sum(n > place for n in self.accepted_per_call) for place in range(self.drafts))

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        found = {k: v for k, v in asdict(self).items() if k != "drafts"}
        if self.drafts:
            found["accepted_per_call"], found["accepted_by_position"] = (
                self.accepted_per_call,
                self.accepted_by_position,
            )
        return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}


@dataclass(frozen=True)
class Row:
    """A row of the state: what is committed from the answer's start, and the counters. `canvas` and `order` hold all
    answer positions: the token, and the number of the call that wrote it last (0: none)."""

    ids: tuple[int, ...]
    ended: bool
    calls: int
    batch_calls: int
    fed: int
    per_call: tuple[int, ...]
    canvas: tuple[int, ...]
    order: tuple[int, ...]


def nothing_done(manifest: Manifest) -> dict[str, npt.NDArray[np.generic]]:
    """What can be read from a state before a graph has told it: nothing is committed, nothing was called."""
    rows, slots = manifest.batch, manifest.capacity
    return {
        "masked": np.ones((rows, slots), np.bool_),
        "order": np.zeros((rows, slots), np.int64),
        "calls": np.zeros(rows, np.int64),
        "batch_calls": np.zeros(1, np.int64),
        "fed": np.zeros(rows, np.int64),
    }


def read_row(manifest: Manifest, request: Request, state: Mapping[str, npt.NDArray[Any]], row: int, done: bool) -> Row:
    """Row `row` of the state; the graphs count the answer when they are `done`, before that it is the committed run."""
    start = int(state["start"][row])
    count = int(state["count"][row]) if done else _committed(manifest, request, state, row)
    calls = int(state["calls"][row])
    order = state["order"][row, start : start + extent(manifest.canvas, len(request.prompt), request.length)]
    tokens = [int(i) for i in state["tokens"][row, start : start + len(order)]]
    return Row(
        tuple(tokens[:count]),
        bool(state["ended"][row]) if done else False,
        calls,
        int(state["batch_calls"].flat[0]),
        int(state["fed"][row]),
        tuple(int(n) for n in np.bincount(order, minlength=calls + 1)[1 : calls + 1]),
        tuple(tokens),
        tuple(int(n) for n in order),
    )


def _committed(manifest: Manifest, request: Request, state: Mapping[str, npt.NDArray[Any]], row: int) -> int:
    start, length = int(state["start"][row]), int(state["length"][row])
    grows = manifest.canvas.init == "empty"
    open_ = state["order"][row] == 0 if grows else state["masked"][row]
    open_ = open_[start : start + length]
    run = int(open_.argmax()) if open_.any() else length
    if manifest.stops_on_eos:
        eos = np.isin(state["tokens"][row, start : start + run], request.controls.eos_ids)
        run = int(eos.argmax()) + 1 if eos.any() else run
    return run


def before_eos(ids: Sequence[int], eos_ids: Sequence[int]) -> Sequence[int]:
    """The ids that have a text: those before the first eos, whether or not the strategy stopped there."""
    return ids[: next((n for n, i in enumerate(ids) if i in eos_ids), len(ids))]
