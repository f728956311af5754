"""Layers that are alike become the turns of one loop, so that Inductor compiles one of them, however many there are.

before   y = f(x, w0, k0); z = f(y, w1, k1); …
after    while i < 30: x = f(x, pick(i, [w0, w1, …]), pick(i, [k0, k1, …])); i = i + 1

A layer is cut before attention, which no fusion crosses: a section is what depends on one attention more than the
section before it. What a section stores lies in the memory of a cache (`store_in_place.py`), which `after` gives once
the loop has run; other values that are asked for of each layer become rows of one tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from dcompile.backends.inductor.sections import Run, runs
from dcompile.ops import AFTER, OWN, PICK, STORE
from dcompile.passes.base import Pass
from dcompile.passes.facts import arguments, placeholders, results
from dcompile.passes.replay import Replay, rerecord_all
from dcompile.program import Program


@dataclass(frozen=True)
class RollLayers(Pass):
    name: ClassVar[str] = "roll-layers"

    def run(self, program: Program) -> Program:
        numbers = count(-1, -1)  # apart from those of store-in-place

        def kind(*args: Any) -> Replay:
            return _Rolling(numbers, *args)

        return rerecord_all(program, kind)

    def __str__(self) -> str:
        return self.name


class _Rolling(Replay):
    def __init__(self, numbers: Iterator[int], *args: Any) -> None:
        super().__init__(*args)
        self.numbers = numbers

    def inside(self, module: fx.GraphModule, inputs: Any) -> list[Tensor]:
        return _Rolling(self.numbers, self.recorder, module, inputs).run()

    def run(self) -> list[Tensor]:
        member = {node: run for run in runs(self.module) for section in run.sections for node in section}
        rolled: set[Run] = set()
        for node in self.module.graph.nodes:
            run = member.get(node)
            if run is None and node.op == "call_function":
                self.value(node)
            elif run is not None and run not in rolled:
                self._roll(run)
                rolled.add(run)
        return [self.value(n) for n in results(self.module)]

    def _roll(self, run: Run) -> None:
        """Record a loop over the sections of a run; know of their values what others ask for."""
        size, last = len(run.sections), run.sections[-1]
        asked = [run.leaving(r) for r in range(size)]
        stores = [j for j, node in enumerate(last) if node.target is STORE]
        kept = sorted(set().union(*asked[:-1]).difference(stores))
        handed = sorted({*run.fed, *asked[-1].difference(kept)}.difference(stores))
        start = {"layer": torch.zeros(1, dtype=torch.int64)}
        for j in handed:
            like = last[j].meta["val"]
            start[f"handed_{j}"] = self.value(run.fed[j]) if j in run.fed else torch.zeros(like.shape, dtype=like.dtype)
        for j in kept:
            start[f"rows_{j}"] = OWN(torch.zeros(1, 1, size, last[j].meta["val"].numel()), next(self.numbers))
        given = {node: [self.value(n) for n in each] for node, each in run.outside.items()}  # not inside the loop

        def turn(now: dict[str, Tensor]) -> dict[str, Tensor]:
            layer = now["layer"]
            section = Replay(self.recorder, self.module, [self.env[n] for n in placeholders(self.module)])
            for node, values in given.items():
                section.env[node] = values[0] if len({*run.outside[node]}) == 1 else PICK(layer, values)
            section.env |= {run.sections[0][j]: now[f"handed_{j}"] for j in run.fed}
            found = [section.value(node) for node in run.sections[1]]
            out = {f"handed_{j}": found[j] for j in handed}
            for j in kept:
                rows = found[j].reshape(1, 1, 1, -1)
                out[f"rows_{j}"] = STORE(now[f"rows_{j}"], layer.reshape(1, 1, 1, 1), rows, [])
            return {"layer": AFTER(layer + 1, [found[j] for j in stores]), **out}

        done = self.recorder.loop(start, lambda now: now["layer"] < size, turn)
        self.env |= {last[j]: done[f"handed_{j}"] for j in handed}
        for r, section in enumerate(run.sections):
            for j in stores:
                self.env[section[j]] = AFTER(self.value(arguments(section[j])[0]), [done["layer"]])
            for j in asked[r].intersection(kept):
                self.env[section[j]] = done[f"rows_{j}"][:, :, r].reshape(section[j].meta["val"].shape)
