"""Carry only what a loop writes of the key and value caches; capture the rest.

Runtimes copy a carried tensor that changes, every turn, and read a captured one for nothing. Three cases:

rows      a loop that rewrites the same slots each turn (Fast-dLLM's dual cache): the rows are carried, the cache is
          captured, and the rows are stored once behind the loop;
tail      a loop that appends (autoregression): an inner loop of at most `turns` turns carries a short tail, attention
          reads the captured prefix and the tail, and the tail is merged once behind it;
path      a loop that verifies drafts: the same, but a turn leaves as many rows as a path may have, behind attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from dcompile.ops import FLOOR
from dcompile.passes.base import Pass
from dcompile.passes.facts import (
    ATTEND,
    Store,
    arguments,
    attends,
    depends,
    placeholders,
    reads_cache,
    results,
    sides,
    stores,
)
from dcompile.passes.merge import Merge
from dcompile.passes.replay import Replay, rerecord_all
from dcompile.program import Program

aten = torch.ops.aten


LEAST = 4  # turns of drafts before a merge: a tail of fewer would be copied for nothing


@dataclass(frozen=True)
class CaptureCache(Pass):
    """`turns`: tokens appended before the tail is merged into the cache."""

    turns: int = 32
    name: ClassVar[str] = "capture-cache"

    def run(self, program: Program) -> Program:
        if program.others:  # which cache belongs to which model is not known here
            return program

        def kind(*args: Any) -> Replay:
            return _Capturing(self.turns, program.capacity, *args)

        return rerecord_all(program, kind)


def _branches(body: fx.GraphModule) -> bool:
    """Whether attention stands in a branch, where what a body reads is not replaced."""
    return any(map(attends, sides(body)))


class _Capturing(Replay):
    def __init__(self, turns: int, capacity: int, *args: Any) -> None:
        super().__init__(*args)
        self.turns, self.capacity = turns, capacity

    def inside(self, module: fx.GraphModule, inputs: Any) -> list[Tensor]:
        return _Capturing(self.turns, self.capacity, self.recorder, module, inputs).run()

    def loop(self, node: fx.Node, args: Any) -> list[Tensor]:
        body, names = args[1], node.meta["carried"]
        found = stores(zip(placeholders(body)[: len(names)], results(body), strict=True))
        if not found or "stored" not in names or _branches(body):
            return super().loop(node, args)
        places = placeholders(body)
        carried = set(places[: len(names)])
        stored = places[names.index("stored")]
        biases = {arguments(n)[3][0] for n in body.graph.nodes if reads_cache(n)}
        same_slots = all(not depends(s.index, carried) for s in found)
        if same_slots and all(depends(b, carried) <= {stored} for b in biases):
            return self._rows(node, args, found)
        words = {s.scatter.meta.get("store") for s in found}
        if words in ({"append"}, {"path"}) and len(biases) == 1:
            return self._tail(node, args, found, _Path if words == {"path"} else _Tail)
        return super().loop(node, args)

    # ------------------------------------------------------------ the same rows each turn

    def _rows(self, node: fx.Node, args: Any, found: list[Store]) -> list[Tensor]:
        cond, body, carried, captured = args
        names = list(node.meta["carried"])
        outer = dict(zip(names, carried, strict=True))
        fixed = Replay(self.recorder, body, [*carried, *captured])
        index = {s.at: fixed.value(s.index) for s in found}
        rows = {names[s.at]: torch.gather(outer[names[s.at]], 2, index[s.at]) for s in found}
        inner_names = [f"rows_{n}" if n in rows else n for n in names]
        start = dict(zip(inner_names, [rows.get(n, outer[n]) for n in names], strict=True))

        def whole(values: dict[str, Tensor]) -> list[Tensor]:
            return [*[outer[n] if n in rows else values[n] for n in names], *captured]

        def turn(values: dict[str, Tensor]) -> dict[str, Tensor]:
            inner = _Rows(self.turns, self.capacity, self.recorder, body, whole(values))
            inner.prepare(found, {s.at: values[f"rows_{names[s.at]}"] for s in found}, outer["stored"])
            return dict(zip(inner_names, inner.run(), strict=True))

        result = self.recorder.loop(start, lambda v: self.inside(cond, whole(v))[0], turn)
        for s in found:
            name = names[s.at]
            result[f"rows_{name}"] = torch.scatter(outer[name], 2, index[s.at], result[f"rows_{name}"])
        return list(result.values())

    # ------------------------------------------------------------ a tail that is merged now and then

    def _tail(self, node: fx.Node, args: Any, found: list[Store], kind: type[_Tail]) -> list[Tensor]:
        cond, body, carried, captured = args
        width = found[0].index.meta["val"].shape[2]
        turns = max(self.turns // width, LEAST)
        size = turns * width
        names = list(node.meta["carried"])
        caches = {names[s.at] for s in found}
        tail = {n: f"tail_{size}_{n}" for n in names if n in caches}  # loops of one program may have others

        def again(values: dict[str, Tensor]) -> Tensor:
            return self.inside(cond, [*[values[n] for n in names], *captured])[0]

        def chunk(values: dict[str, Tensor]) -> dict[str, Tensor]:
            tails = {tail[n]: torch.zeros(*values[n].shape[:2], size, values[n].shape[3]) for n in tail}
            row = torch.full(values["stored"].shape, -1, dtype=torch.int64)
            inner = {**{n: values[n] for n in names if n not in caches}, **tails}
            inner |= {"tail_row": row, "turn": torch.zeros(1, dtype=torch.int64)}

            def turn(now: dict[str, Tensor]) -> dict[str, Tensor]:
                whole = [values[n] if n in caches else now[n] for n in names]
                replay = kind(size, self.capacity, self.recorder, body, [*whole, *captured])
                replay.prepare(found, {s.at: now[tail[names[s.at]]] for s in found}, now["tail_row"], now["turn"])
                out = dict(zip(names, replay.run(), strict=True))
                new = {tail[names[s.at]]: replay.tail(s) for s in found}
                kept = {n: out[n] for n in names if n not in caches}
                return {**kept, **new, "tail_row": replay.rows_now(), "turn": now["turn"] + 1}

            def more(now: dict[str, Tensor]) -> Tensor:
                merged = {n: values[n] if n in caches else now[n] for n in names}
                going: Tensor = now["turn"] < turns
                return again(merged) & going

            done = self.recorder.loop(inner, more, turn)
            store = Merge(done["tail_row"], size)
            merged = {n: store(values[n], done[tail[n]]) for n in tail}
            return {n: merged[n] if n in caches else done[n] for n in names}

        return list(self.recorder.loop(dict(zip(names, carried, strict=True)), again, chunk).values())


class _Rows(_Capturing):
    """A body whose caches are captured: reads of the rewritten rows take the carried rows."""

    def prepare(self, found: list[Store], rows: dict[int, Tensor], stored: Tensor) -> None:
        self.replaced = {s.old: rows[s.at] for s in found}
        self.written = {s.scatter: s.source for s in found}
        frozen = [stored if n.target == "stored" else self.env[n] for n in placeholders(self.module)]
        self.before = Replay(self.recorder, self.module, frozen)

    def visit(self, node: fx.Node) -> Any:
        if node in self.replaced:
            return self.replaced[node]
        if node in self.written:
            return self.value(self.written[node])
        if reads_cache(node):
            return self._attend(node)
        return super().visit(node)

    def _attend(self, node: fx.Node) -> Tensor:
        """Rows that the loop rewrites are hidden from the cached part, so what is stored before the loop decides it."""
        q, k, v, bias, scale = arguments(node)
        parts = [self.before.value(bias[0]), self.value(bias[1])]
        keys, values = [[self.value(n) for n in part] for part in (k, v)]
        out: Tensor = ATTEND(self.value(q), keys, values, parts, scale)
        return out


class _Tail(_Capturing):
    """A body that appends: fresh rows go into the tail first, attention reads the prefix and the tail."""

    def prepare(self, found: list[Store], tails: dict[int, Tensor], row: Tensor, turn: Tensor) -> None:
        self.found = {s.cache: s for s in found}
        self.written = {s.scatter for s in found}
        self.tails, self.row, self.turn = dict(tails), row, turn
        self.first = found[0]
        self.biases: tuple[Tensor, Tensor] | None = None
        self.now: Tensor | None = None

    def visit(self, node: fx.Node) -> Any:
        if node in self.written:
            return self.value(arguments(node)[0])
        if reads_cache(node):
            return self._attend(node)
        return super().visit(node)

    def tail(self, store: Store) -> Tensor:
        """The tail of a cache behind this turn."""
        return self.tails[store.at]

    def rows_now(self) -> Tensor:
        """Which tail row holds each slot [B, C], this turn's included."""
        if self.now is None:
            slots = self.value(self.first.index)[:, 0, :, 0]
            kept = self.value(self.first.kept).reshape(slots.shape)
            old = torch.gather(self.row, 1, slots)
            self.now = torch.scatter(self.row, 1, slots, torch.where(kept, self.turn, old))
        return self.now

    def _attend(self, node: fx.Node) -> Tensor:
        q, k, v, bias, scale = arguments(node)
        keys = [self.value(k[0]), self._append(self.found[k[0]], self.value(k[1]))]
        values = [self.value(v[0]), self._append(self.found[v[0]], self.value(v[1]))]
        if self.biases is None:
            self.biases = self._split(self.value(bias[0]), self.value(bias[1]))
        out: Tensor = ATTEND(self.value(q), keys, values, list(self.biases), scale)
        return out

    def _append(self, store: Store, new: Tensor) -> Tensor:
        index = self.turn.reshape(1, 1, 1, 1).expand(new.shape)
        self.tails[store.at] = torch.scatter(self.tails[store.at], 2, index, new)
        return self.tails[store.at]

    def _split(self, cached: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """The bias [B, 1, 1, C] of all slots, the fresh one included, split into the prefix's and the tail's."""
        slots = self.value(self.first.index)[:, :1, :, 0].unsqueeze(1)
        row = self.rows_now().reshape(cached.shape)
        whole = torch.scatter(cached, 3, slots.expand(fresh.shape), fresh)
        dump = torch.full((*cached.shape[:3], self.turns + 1), FLOOR)
        tail = torch.scatter(dump, 3, torch.where(row >= 0, row, self.turns), whole)[..., : self.turns]
        return torch.where(row >= 0, FLOOR, cached), tail


class _Path(_Tail):
    """A body that keeps a path of what it fed: attention reads the prefix, the tail as it was, and the fresh rows; what
    is kept goes into the tail behind it, into rows of this turn's own."""

    def rows_now(self) -> Tensor:
        if self.now is None:
            slots = self.value(self.first.index)[:, 0, :, 0]
            kept = self.value(self.first.kept).reshape(slots.shape)
            old = torch.gather(self.row, 1, slots)
            self.now = torch.scatter(self.row, 1, slots, torch.where(kept, self._places(slots.shape[1]), old))
        return self.now

    def _places(self, width: int) -> Tensor:
        """The rows of the tail that belong to this turn [1, W]."""
        return (self.turn * width + torch.arange(width)).reshape(1, -1)

    def tail(self, store: Store) -> Tensor:
        new: Tensor = self.value(arguments(store.source)[1])
        index = self._places(new.shape[2]).reshape(1, 1, -1, 1).expand(new.shape)
        return torch.scatter(self.tails[store.at], 2, index, new)

    def _attend(self, node: fx.Node) -> Tensor:
        q, k, v, bias, scale = arguments(node)
        keys = [self.value(k[0]), self.tails[self.found[k[0]].at], self.value(k[1])]
        values = [self.value(v[0]), self.tails[self.found[v[0]].at], self.value(v[1])]
        if self.biases is None:
            self.biases = self._apart(self.value(bias[0]))
        out: Tensor = ATTEND(self.value(q), keys, values, [*self.biases, self.value(bias[1])], scale)
        return out

    def _apart(self, cached: Tensor) -> tuple[Tensor, Tensor]:
        """The bias [B, 1, n, C] of what is stored, split into the prefix's and the tail's."""
        row = self.row.reshape(cached.shape[0], 1, 1, -1).expand(cached.shape)
        dump = torch.full((*cached.shape[:3], self.turns + 1), FLOOR)
        tail = torch.scatter(dump, 3, torch.where(row >= 0, row, self.turns), cached)[..., : self.turns]
        return torch.where(row >= 0, FLOOR, cached), tail
