"""Model calls: feed the slots of a frame, attend to them and to what is stored, keep what is to be kept."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower import depth, dists, drift, eviction, permuted, shadows
from dcompile.lower.context import Context, Dist, Frame, Used, either
from dcompile.lower.embeds import mixed
from dcompile.lower.fork import Kept
from dcompile.lower.frames import behind, bias_of, canvas, look, places, store
from dcompile.lower.regions import frame_of, last_slot, live
from dcompile.lower.shadows import Rows
from dcompile.lower.variables import mask_id
from dcompile.strategy import REGION, Area, Call, Expr, Literal, ModelUse, lags
from dcompile.trace import Slots, call_backbone, call_head

BEHIND = 8  # slots that a model catches up with at a time


def call(ctx: Context, stmt: Call) -> None:
    """Lower `name = model(feed)`: counts, keys and values, logits."""
    frame, used = frame_of(ctx, stmt.feed), ctx.models[stmt.model]
    fed = ctx.value(stmt.feed, frame).expand(ctx.batch, frame.width) & live(ctx, frame)
    everything = isinstance(stmt.feed, Area) and stmt.feed.name == "everything"
    number = fed.to(torch.int64).sum(1)
    shadow = shadows.rows(ctx, stmt)
    running = number > 0 if ctx.active is None else (number > 0) & ctx.active
    _ran(ctx, running, number if shadow is None else number + shadow.fed.to(torch.int64).sum(1))
    kept = _kept(ctx, stmt, frame, fed) & running.reshape(-1, 1)
    appends = isinstance(stmt.feed, Area) and stmt.feed.name == "last" and ctx.strategy.canvas.init == "empty"
    if appends and lags(ctx.strategy, stmt.model):
        catch_up(ctx, used)
    with ctx.recorder.tagged(call=_title(stmt), store="append" if appends else "rewrite"):
        probs, soft = _condition(ctx, stmt, frame), mixed(ctx, stmt, frame)
        stays = None if _keeps_none(stmt) else kept
        ids = None if stmt.tokens is None else ctx.value(stmt.tokens, frame).expand(ctx.batch, frame.width)
        if stmt.order is not None:
            held = look(ctx, ctx.values["tokens"], frame) if ids is None else ids
            hidden = permuted.forward(ctx, stmt, frame, held)
        elif stmt.share is not None:
            hidden = drift.forward(ctx, stmt, frame, fed, running)
        else:
            with depth.left_out(ctx, stmt):
                hidden = forward(
                    ctx, used, frame, fed, stays, alone=everything, condition=probs, embeds=soft, shadow=shadow,
                    tokens=ids, heat=None if stmt.eviction is None else ctx.value(stmt.eviction.heat, None),
                )  # fmt: skip
            if stmt.eviction is not None:
                eviction.forget(ctx, stmt, ctx.values[used.stored])
    if stmt.name is None:
        return
    if shadow is not None:
        shadows.read(ctx, stmt, shadow, hidden[:, frame.width :])
        hidden = hidden[:, : frame.width]
    logits = call_head(used.model.head, hidden)
    if stmt.guidance is not None and not (isinstance(stmt.guidance, Literal) and stmt.guidance.value == 0):
        logits = _guided(ctx, stmt.guidance, frame, fed, logits)
    temperature = None if stmt.temperature is None else ctx.value(stmt.temperature, None)
    visits = _visits(ctx, stmt, used.shift, frame, fed & running.reshape(-1, 1))
    ahead, now = used.use.attention == "causal" and not used.shift, dict(ctx.values)
    last = hidden if isinstance(stmt.feed, Area) and stmt.feed.name == "last" else None
    ctx.dists[stmt.name] = Dist(stmt.site, logits, frame, used.shift, ahead, temperature, visits, now, fed, hidden=last)


def prefill(ctx: Context, used: Used) -> None:
    """Store the prompt but for its last position, a chunk a turn: it belongs to the row's first call."""
    width = min(ctx.chunk, ctx.capacity)
    evicts = used is ctx.first and eviction.evicting(ctx) is not None
    heat = torch.ones(ctx.batch) if evicts else None
    names = [used.stored, *used.caches, *(eviction.variables(ctx) if evicts else [])]
    upto = ctx.inputs["start"] - 1
    outer = dict(ctx.values)

    def turn(values: dict[str, Tensor]) -> dict[str, Tensor]:
        ctx.values = {**outer, **values}
        left = upto[:1] - values["chunk"]
        with ctx.recorder.tagged(rows=str(width)):  # before all that has rows: a backend may feed no others
            fed_rows = torch.clamp(left, max=width)
        frame = Frame(values["chunk"].expand(ctx.batch), width)
        slots = places(ctx, frame)
        fed = (slots >= values["chunk"]) & (slots >= ctx.inputs["pad"].reshape(-1, 1)) & (slots < upto.reshape(-1, 1))
        with ctx.recorder.tagged(call="prefill", store="rewrite"):
            forward(ctx, used, frame, fed, fed, unused=ctx.capacity % width == 0, heat=heat)
        return {**{n: ctx.values[n] for n in names}, "chunk": values["chunk"] + fed_rows}

    carried = {**{n: outer[n] for n in names}, "chunk": torch.zeros(1, dtype=torch.int64)}
    result = ctx.recorder.loop(carried, lambda v: v["chunk"] < upto[:1], turn)
    ctx.values = {**outer, **{n: result[n] for n in names}}
    ctx.values["fed"] = ctx.values["fed"] + torch.clamp(upto - ctx.inputs["pad"], min=0)


def catch_up(ctx: Context, used: Used) -> None:
    """Store what stands before the last position and was never fed to this model, some slots a turn: it belongs to the
    call that is about to be made."""
    width = min(BEHIND, ctx.capacity)
    names, outer = [used.stored, *used.caches], dict(ctx.values)
    last = last_slot(ctx)
    running = torch.ones(ctx.batch, dtype=torch.bool) if ctx.active is None else ctx.active
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    inside = (slots >= ctx.inputs["pad"].reshape(-1, 1)) & (slots < last.reshape(-1, 1)) & running.reshape(-1, 1)
    open_ = inside & ~ctx.values[used.stored]
    number = open_.to(torch.int64).sum(1)
    first = torch.where(number > 0, torch.argmax(open_.to(torch.int64), 1), last)

    def turn(values: dict[str, Tensor]) -> dict[str, Tensor]:
        ctx.values = {**outer, **values}
        frame = Frame(values["chunk"], width)
        here = places(ctx, frame)
        fed = look(ctx, inside & ~values[used.stored], frame) & (here >= values["chunk"].reshape(-1, 1))
        with ctx.recorder.tagged(call="prefill", store="rewrite"):
            forward(ctx, used, frame, fed, fed)
        return {**{n: ctx.values[n] for n in names}, "chunk": values["chunk"] + width}

    carried = {**{n: outer[n] for n in names}, "chunk": first}
    result = ctx.recorder.loop(carried, lambda v: either(running & (v["chunk"] < last)), turn)
    ctx.values = {**outer, **{n: result[n] for n in names}}
    ctx.values["fed"] = ctx.values["fed"] + number


def forward(
    ctx: Context, used: Used, frame: Frame, fed: Tensor, kept: Tensor | None, alone: bool = False,
    unused: bool = False, condition: Tensor | None = None, embeds: Tensor | None = None, shadow: Rows | None = None,
    tokens: Tensor | None = None, heat: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Hidden states [B, W, E] of a frame's slots; `fed` [B, W] are attended and, where `kept`, stored.

    `alone`: nothing but the fed rows can be live, so no cache is read. `unused`: see `keep`. `condition` [B, W, V]:
    what a canvas model that predicts is fed beside the tokens; `embeds` [B, W, E]: what is fed in their place.
    `tokens` [B, W]: what is fed in place of the canvas' own. `shadow`: rows behind those of the frame, in the
    hidden states too. `heat` [B]: where attention is watched, so that keys can be forgotten, what divides its scores.
    """
    slots = places(ctx, frame).expand(ctx.batch, frame.width)
    ids = look(ctx, ctx.values["tokens"], frame) if tokens is None else tokens
    positions = torch.clamp(slots - ctx.inputs["pad"].reshape(-1, 1), min=0)
    pos = places(ctx, canvas(ctx)) - ctx.inputs["pad"].reshape(-1, 1)
    fresh_bias = bias_of(fed.unsqueeze(1) & _sees(used.use, positions, positions, condition is None))
    caches = bias = None
    if not alone:
        here = store(ctx, torch.zeros(ctx.batch, ctx.capacity, dtype=torch.bool), frame, fed)
        stored = ctx.values[used.stored] & ~here
        if "canvas_end" in ctx.values:
            stored = stored & live(ctx, canvas(ctx))
        bias = bias_of(stored.unsqueeze(1) & _sees(used.use, positions, pos, condition is None))
        caches = [(ctx.values[f"k{i}"], ctx.values[f"v{i}"]) for i in used.layers]
    slots_of_call = Slots(caches, bias, fresh_bias)
    if heat is not None:
        running = fed if ctx.active is None else fed & ctx.active.reshape(-1, 1)
        slots_of_call.watch = eviction.watch(ctx, frame, running, heat).attend
    if ctx.fork is not None:
        hidden = ctx.fork.backbone(used.model.backbone, ids, positions, slots_of_call)
        if kept is not None:
            ctx.fork.kept.append(Kept(frame.start, frame.width, kept, slots_of_call, dict(ctx.recorder.tags)))
        return hidden
    if shadow is not None:
        hidden = shadows.backbone(ctx, shadow, frame, ids, positions, slots_of_call, fed)
    else:
        hidden = call_backbone(used.model.backbone, ids, positions, slots_of_call, condition, embeds)
    if kept is not None:
        keep(ctx, used, frame, kept, slots_of_call, unused)
    return hidden


def keep(ctx: Context, used: Used, frame: Frame, kept: Tensor, slots: Slots, unused: bool = False) -> None:
    """Store the new keys and values of a frame's slots where `kept` [B, W] says so. `unused`: nothing was stored in any
    of them before, so what is not kept may be written as well: nobody attends to it."""
    old = look(ctx, ctx.values[used.stored], frame)
    ctx.values[used.stored] = store(ctx, ctx.values[used.stored], frame, old | kept)
    mask = kept.reshape(ctx.batch, 1, -1, 1)
    for layer, fresh in slots.fresh.items():
        for kind, new in zip("kv", fresh, strict=True):
            name = f"{kind}{used.first + layer}"
            cache = ctx.values[name]
            if frame.start is None:
                ctx.values[name] = torch.where(mask, new, cache)
                continue
            index = places(ctx, frame).reshape(ctx.batch, 1, -1, 1).expand(new.shape)
            rows = new if unused else torch.where(mask, new, torch.gather(cache, 2, index))
            ctx.values[name] = torch.scatter(cache, 2, index, rows)


def _condition(ctx: Context, stmt: Call, frame: Frame) -> Tensor | None:
    """What a call that predicts feeds a canvas model beside the tokens [B, W, V], zeros where there is nothing yet."""
    if ctx.models[stmt.model].use.attention != "canvas" or stmt.name is None:
        return None
    if stmt.condition is None:
        return torch.zeros(ctx.batch, frame.width, ctx.model.facts.vocab)
    return dists.probabilities(ctx, stmt.condition, frame)


def _sees(use: ModelUse, query: Tensor, key: Tensor, encodes: bool) -> Tensor:
    """Which keys [B, N] each query [B, W] may attend by the model's kind: bool, broadcasts to [B, W, N]. `encodes`: of
    a canvas model, the encoder's."""
    q, k = query.unsqueeze(2), key.unsqueeze(1)
    if use.attention == "causal" or (use.attention == "canvas" and encodes):
        return k <= q
    if use.attention == "block_causal":
        size = torch.full((1,), use.block or 1, dtype=torch.int64)
        return torch.clamp(k, min=0) // size <= q // size
    return torch.ones(1, 1, 1, dtype=torch.bool)


def _guided(ctx: Context, guidance: Expr, frame: Frame, fed: Tensor, conditional: Tensor) -> Tensor:
    """Classifier-free guidance: u + (g + 1)(c - u), u from the canvas with its prompt masked (LLaDA's generate)."""
    before = ctx.values["tokens"]
    prompt = ctx.value(Area(REGION, guidance.span, "prompt"), frame)
    hidden_tokens = torch.where(prompt, mask_id(ctx), look(ctx, before, frame))
    ctx.values["tokens"] = store(ctx, before, frame, hidden_tokens)
    u: Tensor = call_head(ctx.model.head, forward(ctx, ctx.first, frame, fed, None, alone=True))
    ctx.values["tokens"] = before
    scale = ctx.value(guidance, None).to(torch.float32).reshape(-1, 1, 1) + 1
    return u + scale * (conditional - u)


def _ran(ctx: Context, running: Tensor, number: Tensor) -> None:
    if ctx.fork is not None:  # counted behind the branches, once for all
        ctx.fork.ran = (running, number)
        return
    count(ctx, running, number)


def count(ctx: Context, running: Tensor, number: Tensor) -> None:
    """Count a call of the rows that are running [B], which feeds `number` [B] positions of each."""
    one = running.to(torch.int64)
    ctx.values["calls"] = ctx.values["calls"] + one
    ctx.values["batch_calls"] = ctx.values["batch_calls"] + either(running).to(torch.int64)
    ctx.values["fed"] = ctx.values["fed"] + one * number


def _title(stmt: Call) -> str:
    """What a graph that holds this call is named after."""
    match stmt:
        case Call(name=None):
            return "store"
        case Call(feed=Area(name=area)):
            return area
    return "block"


def _keeps_none(stmt: Call) -> bool:
    return isinstance(stmt.keep, Literal)


def _kept(ctx: Context, stmt: Call, frame: Frame, fed: Tensor) -> Tensor:
    if stmt.keep is None or isinstance(stmt.keep, Literal):
        return fed
    return fed & ctx.value(stmt.keep, frame)


def _visits(ctx: Context, stmt: Call, shift: bool, frame: Frame, fed: Tensor) -> Tensor | None:
    """How often this statement predicted each slot before; then count this time. What is fed predicts itself (a causal
    model's slot stands for the one behind it), on a shifted model the slot behind."""
    if not ctx.rng:
        return None
    name = f"visits{stmt.site}"
    before = ctx.values[name]
    if ctx.fork is not None:
        marks = store(ctx, torch.zeros(ctx.batch, ctx.capacity, dtype=torch.bool), frame, fed)
        marks = behind(marks) if shift else marks
        before = before + ctx.fork.earlier(marks)
        ctx.values[name] = before + marks.to(torch.int64)
        return before
    if not shift:
        ctx.values[name] = store(ctx, before, frame, look(ctx, before, frame) + fed.to(torch.int64))
        return before
    everywhere = store(ctx, torch.zeros(ctx.batch, ctx.capacity, dtype=torch.bool), frame, fed)
    ctx.values[name] = before + behind(everywhere).to(torch.int64)
    return before
