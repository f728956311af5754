"""Model calls: what is fed, what is kept, what can be read."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dcompile.reference import dists, drift, eviction, permuted
from dcompile.reference.expressions import number, region, value
from dcompile.reference.forward import blank, forward, logits_of, states
from dcompile.reference.row import Dist, Row
from dcompile.strategy import KEYS, Area, Call, Eviction, Expr, ModelUse, lags, reads_back


def call(row: Row, stmt: Call) -> None:
    asked = region(row, stmt.feed)
    if not asked:
        return
    use = row.use(stmt.model)
    fed = asked
    model, memory = row.models[stmt.model], row.memories[stmt.model]
    late = isinstance(stmt.feed, Area) and stmt.feed.name == "last"
    if use.attention == "causal" and late and not memory.stored:  # the prompt belongs to the model's first call
        fed = sorted({*asked, *(i for i in range(row.start) if i < asked[-1])})
    if use.attention == "causal" and late and lags(row.strategy, stmt.model):  # and so does what it has not seen
        fed = sorted({*asked, *(i for i in range(asked[-1]) if i not in memory.stored)})
    keep = set(fed) if stmt.keep is None else set(region(row, stmt.keep)) & set(asked) | set(fed) - set(asked)
    if not row.branch:
        row.calls += 1
        row.gaps.append(math.inf)
    shadow = [] if stmt.shadow is None else region(row, stmt.shadow.region)
    row.fed += len(fed) + len(shadow)
    given = _condition(row, use, stmt, fed), _mixed(row, stmt, fed)
    tokens = row.tokens if stmt.tokens is None else [int(t) for t in value(row, stmt.tokens).expand(row.size)]
    if stmt.share is not None:
        hidden = drift.forward(model, memory, row.tokens, fed, stmt.share)
    elif stmt.order is not None:
        hidden = permuted.forward(row, stmt, tokens)
    elif stmt.eviction is not None:
        hidden = _forgetting(row, stmt, stmt.eviction, fed)
    elif stmt.depth is not None:
        states(model, use, memory, tokens, fed[:-1], fed[:-1])  # the prompt goes through all layers
        last = states(model, use, memory, tokens, fed[-1:], fed[-1:], layers=_layers(row, stmt.depth))
        hidden = torch.cat([torch.zeros(len(fed) - 1, last.shape[1]), last])
    else:
        hidden = states(model, use, memory, tokens, fed, keep, *given, shadow)
    logits = logits_of(model, hidden)
    if stmt.shadow is not None:
        row.dists[stmt.shadow.name] = _dist(row, stmt, use, shadow, logits[len(fed) :], count=False)
        logits = logits[: len(fed)]
    if stmt.guidance is not None:
        logits = _guided(row, use, fed, logits, float(number(row, stmt.guidance)))
    if stmt.name is not None:
        row.dists[stmt.name] = _dist(row, stmt, use, fed, logits)
        row.dists[stmt.name].hidden = hidden[len(fed) - 1] if late else None


def _layers(row: Row, depth: Expr) -> int:
    """How many layers a call runs; never more than the last one."""
    whole = row.model.facts.layers
    asked = min(max(math.ceil(float(torch.tensor(float(number(row, depth))) * whole)), 1), whole)
    row.deepest = asked if row.deepest is None else min(asked, row.deepest)
    return row.deepest


def _forgetting(row: Row, stmt: Call, what: Eviction, fed: list[int]) -> Tensor:
    """A forward after which only some keys are left; a prompt's queries have a heat of 1."""
    memory = row.memories[stmt.model]
    row.keys = row.keys or eviction.Keys(row.controls.seed, KEYS + stmt.site)
    heats = [1.0] * (len(fed) - 1) + [float(number(row, what.heat))]
    logits = eviction.forward(row.models[stmt.model], memory, row.keys, row.tokens, fed, heats)
    eviction.forget(memory, row.keys, int(number(row, what.keys)), int(number(row, what.recent)))
    return logits


def _condition(row: Row, use: ModelUse, stmt: Call, fed: list[int]) -> Tensor | None:
    """What a call that predicts feeds a canvas model beside the tokens: probabilities [W, V], zeros where none."""
    if use.attention != "canvas" or stmt.name is None:
        return None
    if stmt.condition is None:
        return torch.zeros(len(fed), row.model.facts.vocab)
    return dists.probabilities(value(row, stmt.condition)[fed])


def _mixed(row: Row, stmt: Call, fed: list[int]) -> Tensor | None:
    """What a call feeds in place of its tokens' embeddings [W, E]: the weighted sum of those of all tokens."""
    if stmt.embeds is None:
        return None
    tokens = torch.arange(row.model.facts.vocab)
    table: Tensor = row.model.backbone.get_input_embeddings()(tokens)  # type: ignore[operator]
    weights = value(row, stmt.embeds).expand(row.size, -1)[fed]
    out = weights @ table
    if stmt.rescale:
        out = out / out.norm(dim=1, keepdim=True).clamp(min=1e-30) * (weights @ table.norm(dim=1, keepdim=True))
    return out


def _guided(row: Row, use: ModelUse, fed: list[int], clean: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance as in LLaDA's generate: away from what is predicted without the prompt."""
    mask_id = row.model.facts.mask_id
    assert mask_id is not None
    hidden = [mask_id] * row.start + row.tokens[row.start :]
    without = forward(row.model, use, blank(row.model, row.size), hidden, fed, ())
    return without + (scale + 1) * (clean - without)


def _dist(row: Row, stmt: Call, use: ModelUse, fed: list[int], logits: Tensor, count: bool = True) -> Dist:
    """Which positions the rows of a forward predict: their own, or the one behind on a shifted model."""
    back = reads_back(row.strategy, use)
    shift = 1 if row.models[use.name].facts.shift or back else 0
    ahead = 1 if use.attention == "causal" and not back else 0
    rows = [n for n, i in enumerate(fed) if i + shift < row.size]
    positions = [fed[n] + shift for n in rows]
    visits = [row.visits.get((stmt.site, i), 0) for i in positions]
    for i in positions:
        row.visits[stmt.site, i] = row.visits.get((stmt.site, i), 0) + count
    seen = frozenset(row.tokens[i] for i in range(row.end) if not row.masked[i])
    committed = sum(not row.masked[i] for i in range(row.start, row.end))
    temperature = row.controls.temperature if stmt.temperature is None else float(number(row, stmt.temperature))
    return Dist(
        logits[rows], positions, [i + ahead for i in positions], stmt.site, temperature, row.controls,
        [seen] * len(rows), [committed] * len(rows), visits, row.draws,
    )  # fmt: skip
