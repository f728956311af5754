"""The run of a whole strategy on one prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from dcompile.controls import Controls
from dcompile.diagnostic import error
from dcompile.models import Model, by_name
from dcompile.reference.forward import blank
from dcompile.reference.result import Forced, Result
from dcompile.reference.row import Draws, Row
from dcompile.reference.statements import RowEnds, reset, sequence
from dcompile.reference.writes import noise, settle
from dcompile.strategy import NOISE, Canvas, Strategy, session_states, stops_on_eos


def run(
    strategy: Strategy,
    model: Model | Mapping[str, Model],
    prompt: Sequence[int],
    *,
    length: int,
    sampling: Controls | None = None,
    template: Sequence[int | None] = (),
    forced: Forced | None = None,
    session: Mapping[str, Tensor] | None = None,
    draws: Draws | None = None,
) -> Result:
    """Run a strategy on one prompt, with `length` answer positions asked for.

    `template`: tokens that answer positions begin with, None for a hole; shorter than the canvas or as long. They are
    never changed. `forced`: follow another engine's commits instead of the own ones, and report where the two differ.
    `session`: what the run before left in the states that live for a session (`Result.session`). `draws`: tokens to
    take where the generator would draw one, by stream, position and visit.
    """
    row = begin(strategy, model, prompt, length, sampling or Controls(), forced)
    row.draws = draws or {}
    if strategy.canvas.init == "uniform":
        row.tokens[row.start :] = [noise(row, NOISE, i) for i in range(row.start, row.size)]
    fix(row, template)
    for state in strategy.states:
        reset(row, state)
    row.variables.update({n: v.clone() for n, v in (session or {}).items()})  # a table is filled in place
    stopped = False
    try:
        sequence(row, strategy.body)
    except RowEnds:
        stopped = True
    if row.calls:
        settle(row)
    return _result(row, stopped)


def begin(
    strategy: Strategy, model: Model | Mapping[str, Model], prompt: Sequence[int], length: int, controls: Controls,
    forced: Forced | None,
) -> Row:  # fmt: skip
    """The row before its first statement."""
    models = by_name(strategy, model)
    model = models[strategy.models[0].name]
    assert prompt and length > 0, "an empty prompt or canvas is refused before"
    start, canvas = len(prompt), strategy.canvas
    masks = canvas.init != "empty"
    answer = extent(canvas, start, length) if masks else length
    mask_id = model.facts.mask_id if canvas.init == "masked" else 0
    if mask_id is None:
        raise error(
            "no-mask-token", f"`{strategy.name}` needs a model with a mask token", "use a masked diffusion model"
        )
    size = start + answer
    return Row(
        strategy, model, controls, [*prompt, *[mask_id] * answer], [False] * start + [masks] * answer, start, length,
        {name: blank(m, size) for name, m in models.items()}, answer if masks else 0, models, forced, [0] * size,
    )  # fmt: skip


def fix(row: Row, template: Sequence[int | None]) -> None:
    """Write a template into the answer; the mask's id is a hole, as None is."""
    assert not template or row.start + len(template) <= row.end, "a template that does not fit is refused before"
    for position, token in enumerate(template, start=row.start):
        if token is not None and token != row.model.facts.mask_id:
            row.tokens[position] = token
            row.masked[position] = False
            row.fixed.add(position)


def extent(canvas: Canvas, start: int, length: int) -> int:
    """The answer positions of a masked canvas: `length`, made longer to whole blocks where the canvas says so."""
    before = start if canvas.multiple_from == "canvas" else 0
    return math.ceil((before + length) / canvas.multiple) * canvas.multiple - before


def _result(row: Row, stopped: bool) -> Result:
    grows = row.strategy.canvas.init == "empty"
    output = row.tokens[row.start : row.start + min(row.filled, row.length)]
    ids = row.controls.eos_ids
    eos = stops_on_eos(row.strategy) and any(t in ids for t in row.answer_run[: row.length])
    if eos:
        output = output[: next(n for n, token in enumerate(output) if token in ids) + 1]
    order = row.order[row.start : row.end]
    full = not grows or row.filled >= row.length
    return Result(
        output_ids=tuple(output),
        tokens=tuple(row.tokens[: row.end]),
        model_calls=row.calls,
        positions_fed=row.fed,
        order=tuple(order),
        committed_per_call=tuple(order.count(n) for n in range(1, row.calls + 1)),
        masks_left=sum(row.masked),
        finish_reason="eos" if eos else "stop" if stopped and not (grows and full) else "length",
        gaps=tuple(row.gaps),
        differences=tuple(row.differences),
        session={s.name: row.variables[s.name] for s in session_states(row.strategy)},
        judged=tuple(row.judged),
    )
