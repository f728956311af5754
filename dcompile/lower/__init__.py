"""Lowering: a Strategy and a model become one Program with the loop inside."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower import ending
from dcompile.lower.calls import cache_names, prefill
from dcompile.lower.context import Context
from dcompile.lower.expressions import value
from dcompile.lower.statements import initial, sequence
from dcompile.program import Graph, Port, Program
from dcompile.record import Recorder
from dcompile.strategy import Area, Assign, Call, Ended, Stop, Strategy, Write, walk
from dcompile.trace import named_weights

EOS_SLOTS = 8  # eos ids an artifact takes at run time


def lower(strategy: Strategy, model: object, *, batch: int = 1, capacity: int = 256, rng: bool = True) -> Program:
    """One graph for `batch` rows and a canvas of at most `capacity` slots; `rng` False: temperature 0 only."""
    recorder = Recorder(named_weights(model.backbone, model.head))  # type: ignore[attr-defined]
    ctx = Context(strategy, model, recorder, batch, capacity, rng, value)
    with recorder.recording():
        _inputs(ctx)
        _variables(ctx)
        if any(isinstance(n, Call) and isinstance(n.feed, Area) and n.feed.name == "last" for n in walk(strategy.body)):
            prefill(ctx)
        sequence(ctx, strategy.body)
        outputs = _outputs(ctx)
        module = recorder.finish(list(outputs.values()))
    ports = tuple(Port(n.target, *_shape(n.meta["val"])) for n in module.graph.nodes if n.op == "placeholder")
    results = tuple(Port(name, *_shape(t)) for name, t in outputs.items())
    graph = Graph("main", module, ports, results)
    return Program(strategy, model.facts, batch, capacity, (graph,))  # type: ignore[attr-defined]


def _inputs(ctx: Context) -> None:
    rows, floats, ints = (ctx.batch,), torch.float32, torch.int64
    spec: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "tokens": ((ctx.batch, ctx.capacity), ints), "pad": (rows, ints), "start": (rows, ints),
        "length": (rows, ints), "temperature": (rows, floats), "top_k": (rows, ints), "top_p": (rows, floats),
        "min_p": (rows, floats), "penalty": (rows, floats), "banned": ((ctx.model.facts.vocab,), torch.bool),
        "min_length": (rows, ints), "eos": ((EOS_SLOTS,), ints), "seed": (rows, ints),
    }  # fmt: skip
    for name, (shape, dtype) in spec.items():
        if ctx.rng or name not in ("temperature", "seed"):
            ctx.inputs[name] = ctx.recorder.input(name, shape, dtype)
    ctx.inputs["end"] = _end(ctx)


def _end(ctx: Context) -> Tensor:
    """The slot behind the canvas, rounded up to whole blocks where the strategy asks for it."""
    canvas = ctx.strategy.canvas
    start, length = ctx.inputs["start"], ctx.inputs["length"]
    if canvas.multiple == 1:
        return start + length
    size = torch.full((1,), canvas.multiple, dtype=torch.int64)
    origin = ctx.inputs["pad"] if canvas.multiple_from == "canvas" else start
    return origin + (start + length - origin + canvas.multiple - 1) // size * size


def _variables(ctx: Context) -> None:
    facts, shape = ctx.model.facts, (ctx.batch, ctx.capacity)
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    answer = (slots >= ctx.inputs["start"].reshape(-1, 1)) & (slots < ctx.inputs["end"].reshape(-1, 1))
    masked = ctx.strategy.canvas.init == "masked"
    ctx.values["tokens"] = ctx.inputs["tokens"]
    if masked:
        ctx.values["tokens"] = torch.where(answer, facts.mask_id, ctx.inputs["tokens"])
    ctx.values["masked"] = answer if masked else torch.zeros(shape, dtype=torch.bool)
    ctx.values["order"] = torch.zeros(shape, dtype=torch.int64)
    ctx.values["stored"] = torch.zeros(shape, dtype=torch.bool)
    for name in ("calls", "fed", "filled"):
        ctx.values[name] = ctx.zeros()
    ctx.values["batch_calls"] = torch.zeros(1, dtype=torch.int64)
    ctx.values["done"], ctx.values["ended"] = ctx.zeros(torch.bool), ctx.zeros(torch.bool)
    for name in cache_names(ctx):
        ctx.values[name] = torch.zeros(ctx.batch, facts.kv_heads, ctx.capacity, facts.head_dim)
    for call in walk(ctx.strategy.body):
        if isinstance(call, Call) and call.name is not None and ctx.rng:
            ctx.values[f"visits{call.site}"] = torch.zeros(shape, dtype=torch.int64)
    for state in ctx.strategy.states:
        ctx.values[state.name] = initial(ctx, state)
    for node in walk(ctx.strategy.body):
        if isinstance(node, Assign) and node.name not in ctx.values:
            from dcompile.lower.expressions import DTYPES

            size = shape if node.value.type.each else shape[:1]
            ctx.values[node.name] = torch.zeros(size, dtype=DTYPES[node.value.type.base])


def _outputs(ctx: Context) -> dict[str, Tensor]:
    """What every artifact returns (docs/artifact.md)."""
    start = ctx.inputs["start"]
    if ctx.strategy.canvas.init == "empty":
        count, ended = ctx.values["filled"], ctx.values["ended"]
    elif stops_on_eos(ctx.strategy):
        at, ended = ending.first_eos(ctx)
        ended = ended & (at < start + ctx.inputs["length"])
        count = torch.where(ended, at - start + 1, ctx.inputs["length"])
    else:
        count, ended = ctx.inputs["length"], ctx.zeros(torch.bool)
    names = ("tokens", "masked", "order", "calls", "batch_calls", "fed")
    return {**{n: ctx.values[n] for n in names}, "count": count, "ended": ended}


def stops_on_eos(strategy: Strategy) -> bool:
    """Whether an eos ends a row: `stop on eos`, or `eos` in a condition."""
    return any(isinstance(n, Ended) or (isinstance(n, Stop) and n.condition is None) for n in walk(strategy.body))


def _shape(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
