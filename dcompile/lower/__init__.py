"""Lowering: a Strategy and a model become one Program with the loop inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dcompile.diagnostic import CompileError, Diagnostic, Label
from dcompile.lower import ending, forcing
from dcompile.lower.appended import appended
from dcompile.lower.calls import prefill
from dcompile.lower.context import CHUNK, Context, used
from dcompile.lower.expressions import DTYPES, value
from dcompile.lower.networks import network
from dcompile.lower.statements import sequence
from dcompile.lower.variables import declare, sides
from dcompile.models import Model, by_name
from dcompile.models.kept import Asleep, real, undisturbed
from dcompile.program import Graph, Port, Program
from dcompile.record import Recorder
from dcompile.stopwatch import part
from dcompile.strategy import (
    Area,
    Call,
    Draft,
    Literal,
    Nodes,
    Strategy,
    is_noisy,
    lags,
    session_states,
    stops_on_eos,
    walk,
)
from dcompile.trace import named_weights

EOS_SLOTS = 8  # eos ids an artifact takes at run time


def lower(
    strategy: Strategy, model: Model | Mapping[str, Model], *, batch: int = 1, capacity: int = 256, rng: bool = True,
    draws: int = 0, chunk: int | None = None, overhang: int = 0,
) -> Program:  # fmt: skip
    """One graph for `batch` rows and a canvas of at most `capacity` slots; `rng` False: temperature 0 only. `draws`:
    for tests, an input of that name holds tokens to take where the generator would draw one (`forcing`), up to so many
    visits. `chunk`: slots that a prompt is stored in at a time. `overhang`: so many of the slots no text comes to, only
    drafts."""
    if not rng and (drawing := _draws(strategy)) is not None:
        raise CompileError([_needs_generator(drawing)])
    models = by_name(strategy, model)
    try:
        with undisturbed():
            return _lower(strategy, models, batch, capacity, rng, draws, chunk or CHUNK, overhang)
    except Asleep:  # more is asked of a model than its weights and what was traced before
        for part_ in (p for m in models.values() for p in (m.backbone, m.head)):
            real(part_)
    return _lower(strategy, models, batch, capacity, rng, draws, chunk or CHUNK, overhang)


def _lower(
    strategy: Strategy, models: Mapping[str, Model], batch: int, capacity: int, rng: bool, draws: int, chunk: int,
    overhang: int,
) -> Program:  # fmt: skip
    model = models[strategy.models[0].name]
    networks = {m.name: network(m) for m in strategy.modules}
    inside = {name: weight for n in networks.values() for name, weight in n.weights.items()}
    behind = {rows.name: appended(rows, model) for rows in strategy.rows}
    inside |= {name: weight for n, rows in behind.items() for name, weight in rows.weights(n).items()}
    recorder = Recorder({**_weights(strategy, models), **inside})
    ctx = Context(
        strategy, model, recorder, batch, capacity, rng, value, modules=networks, models=used(strategy, models),
        appended=behind, chunk=chunk, overhang=overhang,
    )  # fmt: skip
    with recorder.recording():
        _inputs(ctx, draws)
        declare(ctx)
        for name in (n for n in dict.fromkeys(_appending(strategy)) if not lags(strategy, n)):
            with part("prefill"):
                prefill(ctx, ctx.models[name])
        with part("body"):
            sequence(ctx, strategy.body)
        outputs = _outputs(ctx)
        module = recorder.finish(list(outputs.values()))
    ports = tuple(Port(n.target, *_shape(n.meta["val"])) for n in module.graph.nodes if n.op == "placeholder")
    results = tuple(Port(name, *_shape(t)) for name, t in outputs.items())
    graph = Graph("main", module, ports, results)
    others = {name: m.facts for name, m in models.items() if m is not model}
    return Program(strategy, model.facts, batch, capacity, (graph,), others=others, overhang=overhang)


def _appending(strategy: Strategy) -> Iterator[str]:
    """The models that are fed what was appended last, behind a prompt that is stored before."""
    for node in walk(strategy.body):
        match node:
            case Draft(model=str() as name) | Call(model=name, feed=Nodes() | Area(name="last")):
                yield name


def _weights(strategy: Strategy, models: Mapping[str, Model]) -> dict[str, Tensor]:
    """The weights of all models; those of the first have no name before them."""
    out: dict[str, Tensor] = {}
    for n, use in enumerate(strategy.models):
        found = named_weights(models[use.name].backbone, models[use.name].head)
        out |= {f"{use.name}.{name}" if n else name: tensor for name, tensor in found.items()}
    return out


def _draws(strategy: Strategy) -> Call | None:
    """A call that draws at a temperature of its own."""
    calls = (n for n in walk(strategy.body) if isinstance(n, Call) and n.temperature is not None)
    return next((n for n in calls if not (isinstance(n.temperature, Literal) and n.temperature.value == 0)), None)


def _needs_generator(call: Call) -> Diagnostic:
    return Diagnostic(
        "needs-generator",
        "this call draws at a temperature of its own, so the random generator cannot be left out",
        Label(call.span),
        help="build without `--no-sampling`",
    )


def _inputs(ctx: Context, draws: int) -> None:
    """What every artifact takes (docs/artifact.md), and `end`, which follows from it."""
    rows, floats, ints = (ctx.batch,), torch.float32, torch.int64
    spec: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "tokens": ((ctx.batch, ctx.capacity), ints), "pad": (rows, ints), "start": (rows, ints),
        "length": (rows, ints), "temperature": (rows, floats), "top_k": (rows, ints), "top_p": (rows, floats),
        "min_p": (rows, floats), "penalty": (rows, floats), "banned": ((ctx.model.facts.vocab,), torch.bool),
        "min_length": (rows, ints), "eos": ((EOS_SLOTS,), ints), "seed": (rows, ints),
    }  # fmt: skip
    for name, (shape, dtype) in spec.items():
        if ctx.rng or (name != "temperature" and (name != "seed" or is_noisy(ctx.strategy))):
            ctx.inputs[name] = ctx.recorder.input(name, shape, dtype)
    for state in (states := session_states(ctx.strategy)):
        name = f"session_{state.name}"
        ctx.inputs[name] = ctx.recorder.input(name, (*rows, *sides(ctx, state)), DTYPES[state.type.base])
    if states:
        ctx.inputs["fresh"] = ctx.recorder.input("fresh", rows, torch.bool)
    if draws:
        ctx.inputs["draws"] = ctx.recorder.input("draws", forcing.shape(ctx, draws), ints)
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


def _outputs(ctx: Context) -> dict[str, Tensor]:
    """What every artifact returns (docs/artifact.md)."""
    start = ctx.inputs["start"]
    if ctx.strategy.canvas.init == "empty":
        count, ended = ctx.values["filled"], ctx.values["ended"]
    elif stops_on_eos(ctx.strategy):
        at, ended = ending.first_eos(ctx)
        ended = ended & (at < start + ctx.inputs["length"])
        count = torch.where(ended, at - start + 1, _asked(ctx))
    else:
        count, ended = _asked(ctx), ctx.zeros(torch.bool)
    names = ("tokens", "masked", "order", "calls", "batch_calls", "fed")
    kept = {f"session_{s.name}": ctx.values[s.name] for s in session_states(ctx.strategy)}
    return {**{n: ctx.values[n] for n in names}, "count": count, "ended": ended, **kept}


def _asked(ctx: Context) -> Tensor:
    """The answer positions that were asked for and not truncated."""
    length = ctx.inputs["length"]
    if "canvas_end" not in ctx.values:
        return length
    return torch.minimum(length, ctx.values["canvas_end"] - ctx.inputs["start"])


def _shape(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
