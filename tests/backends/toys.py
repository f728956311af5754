"""Small programs with loops in loops, recorded as the lowering records them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Parameter

from dcompile.program import Graph, Port, Program
from dcompile.record import Recorder, Values

ROWS, SLOTS, VOCAB, WIDTH = 2, 12, 16, 8


def weights(wide: bool = False) -> dict[str, Tensor]:
    """Whole eighths, so that float32 sums are exact in any order. `wide` adds rows that no token names."""
    vocab = 40 * VOCAB if wide else VOCAB
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: Parameter(torch.randint(-4, 5, shape, generator=generator).float() / 8)  # noqa: E731
    return {
        "model.embed": draw(vocab, WIDTH),
        "model.layers.0.weight": draw(WIDTH, WIDTH),
        "model.head": draw(vocab, WIDTH),
        "vocab": torch.tensor(VOCAB - 1),
    }


def logits(w: dict[str, Tensor], canvas: Tensor, k: Tensor) -> Tensor:
    """A layer of attention over `k` and a linear head. canvas [B, W], k [B, 2, C, 4] -> [B, W, V]."""
    hidden = torch.nn.functional.linear(w["model.embed"][canvas], w["model.layers.0.weight"])
    q = heads(hidden)
    bias = torch.zeros(ROWS, 1, canvas.shape[1], k.shape[2])
    seen = torch.ops.dcompile.attend(q, [k, q], [k, q], [bias, bias[..., : canvas.shape[1]]], 0.5)
    hidden = hidden + seen.transpose(1, 2).reshape(ROWS, canvas.shape[1], WIDTH)
    return torch.nn.functional.linear(hidden, w["model.head"])


def heads(hidden: Tensor) -> Tensor:
    return hidden.reshape(ROWS, hidden.shape[1], 2, WIDTH // 2).transpose(1, 2)


def unmasking(recorder: Recorder, w: dict[str, Tensor]) -> list[Tensor]:
    """Blocks of four, each filled while it holds a zero, the surest first: two loops, weights used in the inner one."""
    canvas = recorder.input("canvas", (ROWS, SLOTS), torch.int64)
    limit = recorder.input("limit", (ROWS,), torch.int64)

    def blocks(state: Values) -> Values:
        k = heads(w["model.embed"][state["canvas"]])
        start = state["at"] * 4

        def turn(inner: Values) -> Values:
            slots = start[:, None] + torch.arange(4)
            block = inner["canvas"].gather(1, slots)
            best = logits(w, block, k).max(-1)
            rank = torch.ops.dcompile.order(torch.where(block == 0, best.values, -3.0e38))[:, :1]
            token = best.indices.gather(1, rank) % w["vocab"] + 1
            filled = inner["canvas"].scatter(1, slots.gather(1, rank), token)
            live = ((block == 0).to(torch.int64).sum(-1) > 0) & (inner["calls"] < limit)
            return {
                "canvas": torch.where(live[:, None], filled, inner["canvas"]),
                "calls": inner["calls"] + live.to(torch.int64),
                "going": (live & ((block == 0).to(torch.int64).sum(-1) > 1)).to(torch.int64).sum() > 0,
            }

        carried = {"canvas": state["canvas"], "calls": state["calls"], "going": torch.ones((), dtype=torch.bool)}
        done = recorder.loop(carried, lambda v: v["going"], turn)
        extra = recorder.branch(
            (state["at"].sum() > 1).reshape(()),
            lambda: [state["score"] + w["model.embed"].sum()],
            lambda: [state["score"]],
        )
        return {"at": state["at"] + 1, "canvas": done["canvas"], "calls": done["calls"], "score": extra[0]}

    start = {
        "at": torch.zeros(ROWS, dtype=torch.int64),
        "canvas": canvas,
        "calls": torch.zeros(ROWS, dtype=torch.int64),
        "score": torch.zeros(ROWS),
    }
    end = recorder.loop(start, lambda v: v["at"].max() < SLOTS // 4, blocks)
    return [end["canvas"], end["calls"], end["score"]]


def step(recorder: Recorder, w: dict[str, Tensor]) -> list[Tensor]:
    """One straight-line turn over the whole canvas."""
    canvas = recorder.input("canvas", (ROWS, SLOTS), torch.int64)
    k = recorder.input("k", (ROWS, 2, SLOTS, WIDTH // 2), torch.float32)
    best = logits(w, canvas, k).max(-1)
    rank = torch.ops.dcompile.order(torch.where(canvas == 0, best.values, -3.0e38))[:, :2]
    token = best.indices.gather(1, rank) % w["vocab"] + 1
    filled = canvas.scatter(1, rank, token)
    return [filled, heads(w["model.embed"][filled]), (filled == 0).to(torch.int64).sum(-1) > 0]


def graph(name: str, body: Callable[[Recorder, dict[str, Tensor]], list[Tensor]], w: dict[str, Tensor]) -> Graph:
    """Record `body` as a graph; the ports take the names of the inputs and `out0`, `out1`, ..."""
    recorder = Recorder(w)
    with recorder.recording():
        module = recorder.finish(body(recorder, w))
    inputs = [port(n.name, n.meta["val"]) for n in module.graph.find_nodes(op="placeholder")]
    outputs = [port(f"out{i}", n.meta["val"]) for i, n in enumerate(module.graph.output_node().args[0])]
    return Graph(name, module, tuple(inputs), tuple(outputs))


def port(name: str, value: Tensor) -> Port:
    return Port(name, str(value.dtype).removeprefix("torch."), tuple(value.shape))


def program(*graphs: Graph) -> Program:
    """A Program that has graphs and nothing that a backend does not read."""
    return Program(None, None, ROWS, SLOTS, graphs)  # type: ignore[arg-type]
