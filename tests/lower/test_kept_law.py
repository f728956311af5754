"""Lossless, proved, of drafts that are kept over calls: turn after turn, each as it is lowered, in float64.

A position draws by one random number in every turn, so turns are not independent: the number is cut where a turn's
distribution has its steps, and each piece is followed through the turns behind it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from dcompile.backends.eager.run import interpret
from dcompile.dsl import STANDARD, load, soundness
from dcompile.lower import _inputs, sampling, trees
from dcompile.lower.context import Context, Dist, used
from dcompile.lower.expressions import value
from dcompile.lower.statements import statement
from dcompile.lower.variables import declare
from dcompile.ops import FLOOR
from dcompile.record import Recorder
from dcompile.source import Source
from dcompile.strategy import Accept, Call, Draft, Repeat, Strategy, walk
from tests.lower import law
from tests.lower.test_commit_law import CAPACITY, START, controls
from tests.passes.rows import model as tiny


def text(width: int, **changes: str) -> Strategy:
    """The library's program with parts put in place of others."""
    said = (STANDARD / "speculative_jacobi.dcs").read_text().replace("width = 16", f"width = {width}")
    for old, new in [("require lossless", ""), *((PARTS[part], new) for part, new in changes.items())]:
        assert old in said
        said = said.replace(old, new)
    return load(Source("s.dcs", said))


PARTS = {
    "forget": "law[t.depth - 1] = probs(none)",
    "move": "law[t.depth - t.accepted - 1] = probs(p.warped)",
    "token": "window[t.depth - t.accepted - 1] = p.sample",
    "rule": "rejection",
}


class Turn:
    """One turn of the loop as it is lowered, but for the call: what it would return is an input, as are the random
    numbers: u [B, n] of the nodes that are judged, `own` [B, n] of the positions that are drawn."""

    def __init__(self, strategy: Strategy, vocab: int, batch: int) -> None:
        self.tree = next(n.tree for n in walk(strategy.body) if isinstance(n, Draft))
        lm = replace(tiny(), facts=replace(tiny().facts, vocab=vocab))
        recorder, n = Recorder({}), self.tree.size
        ctx = Context(strategy, lm, recorder, batch, CAPACITY, True, value, models=used(strategy, {"lm": lm}))
        (loop,) = (s for s in strategy.body if isinstance(s, Repeat))
        with recorder.recording():
            p = recorder.input("p", (batch, n, vocab), torch.float64)
            u, own = (recorder.input(name, (batch, n), torch.float64) for name in ("u", "own"))
            window = recorder.input("window", (batch, n - 1), torch.int64)
            kept = recorder.input("law", (batch, n - 1, vocab), torch.float64)
            _inputs(ctx, 0)
            declare(ctx)
            ctx.values |= {"window": window, "law": kept}
            logits = torch.where(p > 0, torch.log(torch.where(p > 0, p, 1.0)), FLOOR)
            with (
                mock.patch.object(trees, "uniform", lambda *key: u),
                mock.patch.object(sampling, "uniform", lambda *key: own),
            ):
                for stmt in loop.body:
                    if isinstance(stmt, Call):
                        self._called(ctx, stmt, logits)
                    else:
                        statement(ctx, stmt)
            module = recorder.finish([ctx.values[name] for name in ("tokens", "filled", "window", "law")])
        module.graph.eliminate_dead_code()  # keys and values are of no interest here
        self.module, self.batch = module, batch
        self.names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
        self.rest = controls(batch, vocab, self.tree)

    @staticmethod
    def _called(ctx: Context, stmt: Call, logits: Tensor) -> None:
        nodes = ctx.drafts["t"]
        rows = torch.zeros(ctx.batch, ctx.model.facts.kv_heads, nodes.width, ctx.model.facts.head_dim)
        ctx.drafts["t"] = nodes = replace(nodes, fresh=dict.fromkeys(range(ctx.model.facts.layers), (rows, rows)))
        assert stmt.name is not None
        ctx.dists[stmt.name] = Dist(stmt.site, logits, nodes, False, True, None, None, dict(ctx.values), nodes.live)

    def __call__(self, **given: Tensor) -> list[Tensor]:
        """Any number of rows at once: tokens [N, n], how many [N], window and law behind them."""
        count = len(given["u"])
        parts = []
        for start in range(0, max(count, 1), self.batch):
            some = torch.arange(start, start + self.batch).clamp(max=count - 1)
            every = {**self.rest, **{name: x[some] for name, x in given.items()}}
            with torch.inference_mode():
                parts.append(list(interpret(self.module, *[every[name] for name in self.names])))
        tokens, filled, window, kept = (torch.cat(x)[:count] for x in zip(*parts, strict=True))
        return [tokens[:, START : START + self.tree.size], filled, window, kept]


@dataclass(frozen=True)
class Rows:
    """What a turn begins with, and how likely: the text so far, the window, its laws, and for each position ahead the
    piece [low, high) of its random number."""

    text: list[tuple[int, ...]]
    window: Tensor
    law: Tensor
    low: Tensor
    high: Tensor
    weight: Tensor

    def at(self, some: Tensor) -> Rows:
        chosen = (self.window[some], self.law[some], self.low[some], self.high[some], self.weight[some])
        return Rows([self.text[i] for i in some.tolist()], *chosen)


def said(target: law.Model, rows: Rows) -> Tensor:
    """What the model says behind each node [N, n, V]."""
    out, size = [], rows.window.shape[1] + 1
    for words, window in zip(rows.text, rows.window.tolist(), strict=True):
        seen = [*words, *window]
        ends = [sum(t * target.vocab**i for i, t in enumerate(reversed(seen[:d]))) for d in range(len(seen) + 1)]
        out.append(torch.stack([target.tables[d][ends[d]] for d in range(len(words), len(words) + size)]))
    return torch.stack(out)


def step(turn: Turn, target: law.Model, rows: Rows) -> Rows:
    """All that a turn may leave."""
    p, half = said(target, rows), torch.full((1, turn.tree.size), 0.5, dtype=torch.float64)
    given = {"p": p, "window": rows.window, "law": rows.law}

    def run(draft: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        tokens, filled, *_ = turn(**{k: x[draft] for k, x in given.items()}, u=u, own=half.expand(len(u), -1))
        return filled - 1, tokens.gather(1, filled.unsqueeze(1) - 1).squeeze(1)

    cell = law.cells(law.thresholds(run, turn.tree, len(p)))
    node, _ = run(cell.draft, cell.point)
    ends = law.bonuses(run, cell.draft, cell.point, target.vocab)
    starts = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], 1)
    which, bonus = ((ends - starts) > 1e-14).nonzero(as_tuple=True)
    point = cell.point[which].clone()
    point[:, 0] = (starts + ends)[which, bonus] / 2
    chance = cell.size[which] * (ends - starts)[which, bonus]
    return pieces(turn, rows.at(cell.draft[which]), p[cell.draft[which]], point, node[which], chance)


def pieces(turn: Turn, rows: Rows, p: Tensor, u: Tensor, node: Tensor, chance: Tensor) -> Rows:
    """Cut the numbers of the positions behind the one that a row now ends with, where p has its steps."""
    ends, n = p.cumsum(2), turn.tree.size
    starts = ends - p
    choices = torch.tensor(list(itertools.product(range(p.shape[2]), repeat=n - 1)))
    row, pick = torch.arange(len(p)).repeat_interleave(len(choices)), choices.repeat(len(p), 1)
    used_ = torch.arange(1, n) > node[row].unsqueeze(1)
    row, pick, used_ = (x[((pick == 0) | used_).all(1)] for x in (row, pick, used_))
    places = torch.arange(1, n)
    low, high = rows.low[row, 1:n], rows.high[row, 1:n]
    below = torch.maximum(low, starts[row.unsqueeze(1), places, pick])
    above = torch.minimum(high, ends[row.unsqueeze(1), places, pick])
    below, above = torch.where(used_, below, low), torch.where(used_, above, high)
    real = (above - below > 1e-14).all(1)
    row, below, above, low, high = (x[real] for x in (row, below, above, low, high))
    found = rows.at(row)
    own = torch.cat([torch.full_like(below[:, :1], 0.5), (below + above) / 2], 1)
    tokens, filled, window, kept = turn(p=p[row], window=found.window, law=found.law, u=u[row], own=own)
    assert torch.equal(filled - 1, node[row]), "the numbers of positions decide nothing that is judged"
    weight = found.weight * chance[row] * ((above - below) / (high - low)).prod(1)
    text = [(*w, *t[:n]) for w, t, n in zip(found.text, tokens.tolist(), filled.tolist(), strict=True)]
    ahead = torch.cat([found.low[:, :1], below, found.low[:, n:]], 1)
    behind = torch.cat([found.high[:, :1], above, found.high[:, n:]], 1)
    shift = filled.unsqueeze(1) + torch.arange(ahead.shape[1])
    inside = shift < ahead.shape[1]
    shift = shift.clamp(max=ahead.shape[1] - 1)
    low = torch.where(inside, ahead.gather(1, shift), 0.0)
    high = torch.where(inside, behind.gather(1, shift), 1.0)
    return Rows(text, window, kept, low, high, weight)


def error(strategy: Strategy, vocab: int = 2, length: int = 3) -> float:
    """The largest difference between the law of the first `length` tokens and that of plain sampling."""
    turn = Turn(strategy, vocab, 512)
    width = turn.tree.size - 1
    target = law.model(vocab, length + 2 * turn.tree.size, 3)
    one = torch.ones(1, 2 * turn.tree.size, dtype=torch.float64)
    rows = Rows(
        [()], torch.zeros(1, width, dtype=torch.int64), torch.zeros(1, width, vocab, dtype=torch.float64),
        one * 0, one, torch.ones(1, dtype=torch.float64),
    )  # fmt: skip
    found: dict[tuple[int, ...], float] = {}
    while len(rows.weight):
        done = torch.tensor([len(words) >= length for words in rows.text])
        for i in done.nonzero().squeeze(1).tolist():
            words = rows.text[i][:length]
            found[words] = found.get(words, 0.0) + float(rows.weight[i])
        rows = rows.at((~done).nonzero().squeeze(1))
        rows = step(turn, target, rows) if len(rows.weight) else rows
    assert abs(sum(found.values()) - 1) < 1e-9
    plain = torch.ones(1, dtype=torch.float64)
    for table in target.tables[:length]:
        plain = (plain.unsqueeze(1) * table).reshape(-1)
    words = itertools.product(range(vocab), repeat=length)
    return max(abs(found.get(w, 0.0) - float(chance)) for w, chance in zip(words, plain, strict=True))


def verdict(strategy: Strategy) -> str:
    nodes = list(walk(strategy.body))
    (draft,), (accept,) = ([n for n in nodes if isinstance(n, kind)] for kind in (Draft, Accept))
    assert isinstance(draft, Draft) and isinstance(accept, Accept)
    return soundness.judged(strategy, draft, accept)[0]


@pytest.mark.parametrize(("width", "vocab"), [(2, 2), *(pytest.param(w, 3, marks=pytest.mark.slow) for w in (1, 2))])
def test_kept_draws_have_the_law_of_plain_sampling(width: int, vocab: int) -> None:
    strategy = text(width)
    assert verdict(strategy) == "proved"
    assert error(strategy, vocab) < 1e-12


AHEAD = "t.depth - t.accepted"
FAULTS = {
    "what was judged is judged again": (1, 4, {"forget": "window[t.depth - 1] = t.token"}),
    "laws of the positions before": (2, 3, {"move": f"law[{AHEAD}] = probs(p.warped)"}),
    "draws for the positions before": (
        2,
        3,
        {"token": f"window[{AHEAD}] = p.sample", "move": f"law[{AHEAD}] = probs(p.warped)"},
    ),
    "likeliest tokens": (1, 3, {"token": f"window[{AHEAD} - 1] = p.top"}),
    "a rule that looks behind the token it refuses": (2, 3, {"rule": "block"}),
}


@pytest.mark.parametrize(
    "fault", [*list(FAULTS)[:1], *(pytest.param(f, marks=pytest.mark.slow) for f in list(FAULTS)[1:])]
)
def test_a_fault_shows_and_is_not_called_proved(fault: str) -> None:
    width, length, changes = FAULTS[fault]
    strategy = text(width, **changes)
    assert verdict(strategy) == "greedy only"
    assert error(strategy, length=length) > 1e-3
