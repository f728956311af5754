"""What each pass makes of a small graph, as text. `--accept` writes it anew; read the difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dcompile.passes.base import Stage, run_passes
from dcompile.passes.cut import cut
from dcompile.passes.pipeline import PASSES
from dcompile.printing import text
from dcompile.program import Graph, Port, Program
from dcompile.record import Recorder
from tests.passes.rows import model, read

HERE = Path(__file__).parent / "cases"
WEIGHT = torch.arange(12.0).reshape(6, 2)
Rows = dict[str, Tensor]


def record(make: Callable[[Recorder, Tensor, Tensor], list[Tensor]]) -> Program:
    """A graph with inputs x float32[1, 4] and n int64[1]."""
    recorder = Recorder({"head.weight": WEIGHT})
    with recorder.recording():
        x, n = recorder.input("x", (1, 4), torch.float32), recorder.input("n", (1,), torch.int64)
        module = recorder.finish(make(recorder, x, n))
    shapes = [(tuple(v.meta["val"].shape), str(v.meta["val"].dtype)[6:]) for v in module.graph.output_node().args[0]]
    outputs = tuple(Port(f"out{i}", dtype, shape) for i, (shape, dtype) in enumerate(shapes))
    inputs = (Port("x", "float32", (1, 4)), Port("n", "int64", (1,)))
    return Program(read("greedy"), model().facts, 1, 4, (Graph("main", module, inputs, outputs),))


def twice(_: Recorder, x: Tensor, n: Tensor) -> list[Tensor]:
    return [(x + 1) * (x + 1), torch.clone(x), torch.clone(x)]


def head(_: Recorder, x: Tensor, n: Tensor) -> list[Tensor]:
    logits = torch.nn.functional.linear(x.reshape(1, 2, 2), WEIGHT)
    return [torch.index_select(logits.reshape(2, 6), 0, n)]


def scores(_: Recorder, x: Tensor, n: Tensor) -> list[Tensor]:
    probs = torch.softmax(x, -1)
    entropy = -(probs * torch.log(torch.clamp(probs, min=1e-38))).sum(-1)
    total = torch.exp(x - torch.amax(x, -1, keepdim=True)).sum(-1, keepdim=True)
    return [probs.amax(-1), entropy, torch.ops.dcompile.best_two(probs), torch.log(total)]


def invariant(recorder: Recorder, x: Tensor, n: Tensor) -> list[Tensor]:
    out = recorder.loop({"i": n}, lambda v: v["i"] < 3, lambda v: {"i": v["i"] + (n * n + 1)})
    return [out["i"], x]


def unread(recorder: Recorder, x: Tensor, n: Tensor) -> list[Tensor]:
    start = {"i": n, "sum": torch.exp(x)}
    out = recorder.loop(start, lambda v: v["i"] < 3, lambda v: {"i": v["i"] + 1, "sum": v["sum"] + x})
    return [out["i"], x]


def branch(recorder: Recorder, x: Tensor, n: Tensor) -> list[Tensor]:
    return recorder.branch(n > 2, lambda: [torch.exp(x)], lambda: [x + 1])


def appends(recorder: Recorder, x: Tensor, n: Tensor) -> list[Tensor]:
    """One layer with one head of two numbers, four slots."""
    zeros = torch.zeros(1, 1, 4, 2)
    start = {"i": n, "stored": x > 9, "k0": zeros, "v0": torch.clone(zeros)}

    def turn(v: Rows) -> Rows:
        index = v["i"].reshape(1, 1, 1, 1).expand(1, 1, 1, 2)
        fresh = x[:, :2].reshape(1, 1, 1, 2)
        keep = (v["i"] < 9).reshape(1, 1, 1, 1)
        bias = torch.where(v["stored"], 0.0, -3.0e38).reshape(1, 1, 1, 4)
        none = torch.zeros(1, 1, 1, 1)
        seen = torch.ops.dcompile.attend(fresh, [v["k0"], fresh], [v["v0"], fresh], [bias, none], 1.0)
        with recorder.tagged(store="append"):
            new = {
                name: torch.scatter(v[name], 2, index, torch.where(keep, row, torch.gather(v[name], 2, index)))
                for name, row in (("k0", fresh), ("v0", seen))
            }
        stored = torch.scatter(v["stored"], 1, v["i"].reshape(1, 1), keep.reshape(1, 1))
        return {"i": v["i"] + 1, "stored": stored, **new}

    out = recorder.loop(start, lambda v: v["i"] < 3, turn)
    return [out["i"], out["v0"]]


CASES = {
    "common-subexpressions": twice, "slice-head": head, "fuse-scores": scores,
    "hoist": invariant, "dead-state": unread, "select-branches": branch, "capture-cache": appends,
}  # fmt: skip


def check(path: Path, found: str, accept: bool) -> None:
    if accept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_pass(name: str, accept: bool) -> None:
    before = record(CASES[name])
    found = text(before)
    after = text(run_passes(before, [Stage("alone", (PASSES[name],))]))
    check(HERE / name / f"{CASES[name].__name__}.txt", f"{found}\n---- {name}\n\n{after}", accept)


def test_every_pass_has_a_case() -> None:
    assert {*CASES, "share-weights"} == set(PASSES)


def test_share_weights() -> None:
    """Equal constants become one; two large ones that differ in a single number, which no sample shows, stay two."""
    ones, same, large = torch.ones(1), torch.ones(1), torch.zeros(300_000)
    other = large.clone()
    other[4100] = 1

    def constants(_: Recorder, x: Tensor, n: Tensor) -> list[Tensor]:
        return [x + ones, x * same, x * large[:1], x + other[:1]]

    program = run_passes(record(constants), [Stage("alone", (PASSES["share-weights"],))])
    module = program.graphs[0].module
    a, b, c, d = (getattr(module, str(n.target)) for n in module.graph.nodes if n.op == "get_attr")
    assert a is b
    assert c is not d


def test_the_cut(accept: bool) -> None:
    check(HERE / "cut" / "appends.txt", text(cut(record(appends), "step")), accept)
