"""Caches that a loop has for itself: what the pass makes, and that nobody sees a cache change who should not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dcompile.backends.inductor.build import CPU
from dcompile.backends.inductor.run import load
from dcompile.backends.inductor.store_in_place import StoreInPlace
from dcompile.ops import OWN, ROOM, STORE
from dcompile.passes.base import Stage, run_passes
from dcompile.printing import text
from dcompile.program import Program, modules
from dcompile.record import Recorder
from tests.backends.harness import program_of, through
from tests.passes.test_golden import HERE, appends, check, record

torch.set_num_threads(1)
STAGE = [Stage("alone", (StoreInPlace(),))]
SHAPE = (2, 3, 8, 16)  # rows, heads, slots, numbers
Rows = dict[str, Tensor]


def test_a_loop_that_appends(accept: bool) -> None:
    before = record(appends)
    found = text(before)
    after = text(run_passes(before, STAGE))
    check(HERE / "store-in-place" / "appends.txt", f"{found}\n---- store-in-place\n\n{after}", accept)


def program(make: Callable[[Recorder, Tensor, Tensor], list[Tensor]]) -> Program:
    """A graph with a cache and a count of turns as inputs."""
    recorder = Recorder({})
    with recorder.recording():
        cache, n = recorder.input("in_0", SHAPE, torch.float32), recorder.input("in_1", (1,), torch.int64)
        return program_of(recorder.finish(make(recorder, cache, n)))


def stored(cache: Tensor, at: Tensor, rows: Tensor) -> Tensor:
    index = at.reshape(-1, 1, 1, 1).expand(rows.shape)
    return torch.scatter(cache, 2, index, rows)


def looped(recorder: Recorder, cache: Tensor, n: Tensor, rows: Callable[[Rows], Tensor]) -> Rows:
    """Turns that store one row each, and add up what was stored before."""

    def turn(v: Rows) -> Rows:
        query = torch.ones(SHAPE[0], SHAPE[1], 1, SHAPE[3])
        bias = torch.zeros(SHAPE[0], 1, 1, SHAPE[2])
        seen = torch.ops.dcompile.attend(query, [v["cache"]], [v["cache"]], [bias], 1.0)
        return {"i": v["i"] + 1, "sum": v["sum"] + seen, "cache": stored(v["cache"], v["i"], rows(v))}

    start = {"i": torch.zeros(1, dtype=torch.int64), "sum": torch.zeros(*SHAPE[:2], 1, SHAPE[3]), "cache": cache}
    return recorder.loop(start, lambda v: v["i"] < n, turn)


def counted(v: Rows) -> Tensor:
    return v["sum"] + v["i"]


def kept(v: Rows) -> Tensor:
    """What stood there, in even turns."""
    index = v["i"].reshape(1, 1, 1, 1).expand(*SHAPE[:2], 1, SHAPE[3])
    old = torch.gather(v["cache"], 2, index)
    return torch.where((v["i"] % 2 == 0).reshape(1, 1, 1, 1), old, torch.full((*SHAPE[:2], 1, SHAPE[3]), 0.5))


def one(recorder: Recorder, cache: Tensor, n: Tensor) -> list[Tensor]:
    out = looped(recorder, cache, n, counted)
    return [out["cache"], out["sum"], cache * 2]


def two_of_one(recorder: Recorder, cache: Tensor, n: Tensor) -> list[Tensor]:
    """The second goes on with what the first left; a third begins where the first began."""
    first = looped(recorder, cache, n, counted)
    second = looped(recorder, first["cache"], n - 1, kept)
    third = looped(recorder, cache, n, kept)
    return [second["cache"], second["sum"], third["cache"], third["sum"]]


def read_behind(recorder: Recorder, cache: Tensor, n: Tensor) -> list[Tensor]:
    first = looped(recorder, cache, n, counted)
    second = looped(recorder, first["cache"], n, kept)
    return [first["cache"] + 1, second["cache"], second["sum"]]


def taken_twice(recorder: Recorder, cache: Tensor, n: Tensor) -> list[Tensor]:
    """What one loop left is two caches of the next, which then differ."""
    first = looped(recorder, cache, n, counted)

    def turn(v: Rows) -> Rows:
        rows = torch.ones(*SHAPE[:2], 1, SHAPE[3])
        one, other = (stored(v[name], v["i"], rows * k) for k, name in enumerate(("one", "other")))
        return {"i": v["i"] + 1, "one": one, "other": other}

    start = {"i": torch.zeros(1, dtype=torch.int64), "one": first["cache"], "other": first["cache"]}
    second = recorder.loop(start, lambda v: v["i"] < n, turn)
    return [second["one"], second["other"]]


def at_one_place(recorder: Recorder, cache: Tensor, n: Tensor) -> list[Tensor]:
    """Rows that each turn stores anew, where a value from outside says."""
    return [stored_anew(recorder, cache, n, a_place())]


def from_far(recorder: Recorder, cache: Tensor, n: Tensor) -> list[Tensor]:
    """The same in a loop of its own, the value from outside of both."""
    place = a_place()

    def turn(v: Rows) -> Rows:
        return {"i": v["i"] + 1, "cache": stored_anew(recorder, v["cache"], n, place)}

    out = recorder.loop({"i": torch.zeros(1, dtype=torch.int64), "cache": cache}, lambda v: v["i"] < 2, turn)
    return [out["cache"]]


def a_place() -> Tensor:
    return (4 - 3 * torch.arange(2)).reshape(1, 1, 2, 1).expand(*SHAPE[:2], 2, SHAPE[3])


def stored_anew(recorder: Recorder, cache: Tensor, n: Tensor, place: Tensor) -> Tensor:

    def turn(v: Rows) -> Rows:
        query, bias = torch.ones(*SHAPE[:2], 2, SHAPE[3]), torch.zeros(SHAPE[0], 1, 2, SHAPE[2])
        seen = torch.ops.dcompile.attend(query, [v["cache"]], [v["cache"]], [bias], 1.0)
        rows = torch.where((v["i"] != 1).reshape(1, 1, 1, 1), seen, torch.gather(v["cache"], 2, place))
        return {"i": v["i"] + 1, "cache": torch.scatter(v["cache"], 2, place, rows)}

    start = {"i": torch.zeros(1, dtype=torch.int64), "cache": cache}
    return recorder.loop(start, lambda v: v["i"] < n, turn)["cache"]


def nested(recorder: Recorder, cache: Tensor, n: Tensor) -> list[Tensor]:
    """Two loops in a loop, the caches from turn to turn."""

    def turn(v: Rows) -> Rows:
        inner = looped(recorder, v["cache"], n, counted)
        return {"i": v["i"] + 1, "cache": inner["cache"], "sum": v["sum"] + inner["sum"]}

    start = {"i": torch.zeros(1, dtype=torch.int64), "cache": cache, "sum": torch.zeros(*SHAPE[:2], 1, SHAPE[3])}
    out = recorder.loop(start, lambda v: v["i"] < n, turn)
    return [out["cache"], out["sum"]]


def empty(recorder: Recorder, _: Tensor, n: Tensor) -> list[Tensor]:
    """A cache that begins empty, and ends with the graph."""
    return [looped(recorder, torch.zeros(SHAPE), n, counted)["sum"].sum((1, 2))]


def empty_and_given(recorder: Recorder, _: Tensor, n: Tensor) -> list[Tensor]:
    return [looped(recorder, torch.zeros(SHAPE), n, counted)["cache"]]


# How many stores there are in place, how many copies to own, and how many rooms.
CASES = {
    one: (1, 1, 0),
    two_of_one: (3, 2, 0),
    read_behind: (2, 2, 0),
    taken_twice: (3, 3, 0),
    at_one_place: (1, 1, 0),
    from_far: (1, 1, 0),
    nested: (1, 1, 0),
    empty: (1, 0, 1),
    empty_and_given: (1, 1, 0),
}
GIVEN = torch.arange(float(2 * 3 * 8 * 16)).reshape(SHAPE) / 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_is_copied_and_what_is_stored(case: Callable[..., list[Tensor]]) -> None:
    want = through("eager")(program(case).graphs[0].module, [GIVEN, torch.tensor([3])])
    module = run_passes(program(case), STAGE).graphs[0].module
    targets = [node.target for inner in modules(module) for node in inner.graph.nodes]
    assert tuple(map(targets.count, (STORE, OWN, ROOM))) == CASES[case]
    found = through("eager")(module, [GIVEN, torch.tensor([3])])
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


def test_a_cache_that_others_may_read_later_is_copied() -> None:
    def make(recorder: Recorder, cache: Tensor, n: Tensor) -> list[Tensor]:
        def turn(v: Rows) -> Rows:
            rows = v["sum"][:, :, :1] + v["i"]
            return {"i": v["i"] + 1, "sum": v["cache"] * 2, "cache": stored(v["cache"], v["i"], rows)}

        start = {"i": torch.zeros(1, dtype=torch.int64), "sum": cache + 1, "cache": cache}
        out = recorder.loop(start, lambda v: v["i"] < n, turn)
        return [out["cache"], out["sum"]]

    module = run_passes(program(make), STAGE).graphs[0].module
    assert not any(node.target is STORE for inner in modules(module) for node in inner.graph.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_target_gives_the_same(case: Callable[..., list[Tensor]], tmp_path: Path) -> None:
    """For turns of none and of some, one run behind the other; what is given stays as it is."""
    built = run_passes(program(case), CPU.stages)
    executable = load(tmp_path, CPU().build(built, tmp_path), threads=1)
    for turns in (0, 4, 1, 4):
        given = [GIVEN.clone(), torch.tensor([turns])]
        want = through("eager")(program(case).graphs[0].module, given)
        found = executable.run("main", {f"in_{i}": x.numpy() for i, x in enumerate(given)})
        assert all(np.allclose(found[f"out_{i}"], x.numpy(), rtol=1e-5) for i, x in enumerate(want)), turns
        assert torch.equal(given[0], GIVEN)
