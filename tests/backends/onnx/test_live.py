"""Live slots: what is not attended is left out, in front of loops or on the spot, and only lengths change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import Tensor

from dcompile.backends.eager.run import interpret
from dcompile.backends.onnx.build import ONNX
from dcompile.backends.onnx.live import LiveSlots
from dcompile.backends.onnx.run import load
from dcompile.ops import FLOOR
from dcompile.passes.base import Stage, run_passes
from dcompile.program import Graph, Port, Program, modules
from dcompile.record import Recorder, Values
from tests.backends.harness import FACTS, STRATEGY

torch.set_num_threads(1)

SLOTS = 700
TURNS = 3
FRONT = "dcompile.front.default"


def cache_and_stored(recorder: Recorder, rows: int = 2) -> tuple[Tensor, Tensor]:
    return (
        recorder.input("cache", (rows, 2, SLOTS, 8), torch.float32),
        recorder.input("stored", (rows, SLOTS), torch.bool),
    )


def mask(seen: Tensor) -> Tensor:
    return torch.where(seen.reshape(seen.shape[0], 1, 1, -1), 0.0, FLOOR)


def rows(recorder: Recorder) -> list[Tensor]:
    """A loop that captures the cache and its bias."""
    cache, stored = cache_and_stored(recorder)
    q = recorder.input("q", (2, 4, 3, 8), torch.float32)
    bias, own = mask(stored), torch.zeros(2, 1, 1, 2)
    half = cache * 0.5

    def turn(now: Values) -> Values:
        fresh = now["x"][:, :2, :2]
        parts = [cache, fresh], [half, fresh]
        return {"x": torch.ops.dcompile.attend(now["x"], *parts, [bias, own], 0.5), "turn": now["turn"] + 1}

    start = {"x": q, "turn": torch.zeros(1, dtype=torch.int64)}
    return [recorder.loop(start, lambda now: now["turn"] < TURNS, turn)["x"]]


def tail(recorder: Recorder) -> list[Tensor]:
    """A loop as capture-cache makes it: it appends to a tail, and its bias hides what it has appended so far."""
    cache, stored = cache_and_stored(recorder)
    q = recorder.input("q", (2, 4, 1, 8), torch.float32)
    half = cache * 0.5

    def turn(now: Values) -> Values:
        slot = now["stored"].to(torch.int64).sum(1, keepdim=True)
        here = torch.scatter(torch.zeros(2, SLOTS, dtype=torch.bool), 1, slot, True)
        row = torch.where(here, now["turn"], now["tail_row"])
        index = now["turn"].reshape(1, 1, 1, 1).expand(2, 2, 1, 8)
        kept = torch.scatter(now["tail"], 2, index, now["x"][:, :2])
        seen = mask(now["stored"] & (now["tail_row"] < 0))
        mine = mask((torch.arange(TURNS) <= now["turn"]).expand(2, TURNS))
        x = torch.ops.dcompile.attend(now["x"], [cache, kept], [half, kept], [seen, mine], 0.5)
        return {"x": x, "stored": now["stored"] | here, "tail_row": row, "tail": kept, "turn": now["turn"] + 1}

    start = {
        "x": q,
        "stored": stored.clone(),
        "tail_row": torch.full((2, SLOTS), -1, dtype=torch.int64),
        "tail": torch.zeros(2, 2, TURNS, 8),
        "turn": torch.zeros(1, dtype=torch.int64),
    }
    done = recorder.loop(start, lambda now: now["turn"] < TURNS, turn)
    return [done["x"], done["stored"]]


def many_rows(recorder: Recorder) -> list[Tensor]:
    """No loop, and many queries: two layers of them over one bias."""
    cache, stored = cache_and_stored(recorder)
    q = recorder.input("q", (2, 4, 16, 8), torch.float32)
    bias, own = mask(stored), torch.zeros(2, 1, 1, 16)
    for _ in range(2):
        fresh = q[:, :2]
        q = torch.ops.dcompile.attend(q, [cache, fresh], [cache * 0.5, fresh], [bias, own], 0.5)
    return [q]


def recorded(function: Callable[[Recorder], list[Tensor]]) -> Program:
    recorder = Recorder({})
    with recorder.recording():
        module = recorder.finish(function(recorder))
    ports = [[Port(n.name, str(n.meta["val"].dtype)[6:], tuple(n.meta["val"].shape)) for n in nodes] for nodes in (
        module.graph.find_nodes(op="placeholder"), module.graph.output_node().args[0]
    )]  # fmt: skip
    outputs = [Port(f"out_{i}", p.dtype, p.shape) for i, p in enumerate(ports[1])]
    return Program(STRATEGY, FACTS, 2, SLOTS, (Graph("main", module, tuple(ports[0]), tuple(outputs)),))


def inputs(program: Program, live: int) -> list[Tensor]:
    """The first row has `live` slots, the second three fewer; the rest of the cache is wild."""
    generator = torch.Generator().manual_seed(live)
    found = []
    for port in program.graphs[0].inputs:
        if port.name == "stored":
            found.append(torch.arange(SLOTS).expand(2, SLOTS) < torch.tensor([[live], [max(live - 3, 0)]]))
        else:
            found.append(torch.randn(port.shape, generator=generator))
            if port.name == "cache":
                found[-1][:, :, live:] = 1e9
    return found


@pytest.mark.parametrize("live", [0, 5, 640, SLOTS - TURNS])
@pytest.mark.parametrize("function", [rows, tail, many_rows])
def test_the_same_values(function: Callable[[Recorder], list[Tensor]], live: int, tmp_path: Path) -> None:
    given = inputs(recorded(function), live)
    want = interpret(recorded(function).graphs[0].module, *given)
    program = run_passes(recorded(function), ONNX.stages)
    assert LiveSlots in {type(p) for stage in ONNX.stages for p in stage.passes}
    for a, b in zip(interpret(program.graphs[0].module, *given, check=True), want, strict=True):
        assert torch.equal(a, b)
    files = ONNX().build(program, tmp_path)
    feed = {p.name: t.numpy() for p, t in zip(program.graphs[0].inputs, given, strict=True)}
    found = load(tmp_path, files, 1).run("main", feed)
    for i, b in enumerate(want):
        a = torch.from_numpy(found[f"out_{i}"])
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("function", "depths"), [(rows, [3]), (tail, [2, 0, 1]), (many_rows, [5])])
def test_where_the_cut_is(function: Callable[[Recorder], list[Tensor]], depths: list[int]) -> None:
    """Keys and values are cut in front of a loop that captures them (here, both of them and the bias), and a bias
    that the loop makes inside it."""
    program = run_passes(recorded(function), (Stage("onnx", (LiveSlots(),)),))
    counts = [Counter(str(n.target) for n in module.graph.nodes)[FRONT] for module in modules(program.graphs[0].module)]
    assert counts == depths + [0] * (len(counts) - len(depths))


def test_few_queries_go_by_products_and_many_by_one_node(tmp_path: Path) -> None:
    """A few queries copy no cache, however much of it is live; its length is asked for at run time."""
    program = run_passes(recorded(tail), ONNX.stages)
    text = str(ir.load(tmp_path / ONNX().build(program, tmp_path)["main"]).graph)
    assert text.count("Attention(") == 0 and text.count("::If(") == 0 and text.count("Split(") == 1
    program = run_passes(recorded(many_rows), ONNX.stages)
    text = str(ir.load(tmp_path / ONNX().build(program, tmp_path)["main"]).graph)
    assert text.count("Attention(") == 2 and text.count("Split(") == 0
