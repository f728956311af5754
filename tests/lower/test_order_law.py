"""What `commit ... by rejection(q, p)` leaves on the canvas has the law of one position at a time, by enumeration."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor

from dcompile.backends.eager.run import interpret
from dcompile.lower import EOS_SLOTS, _inputs, permuted, sampling
from dcompile.lower.context import Context, used
from dcompile.lower.expressions import value
from dcompile.lower.variables import declare
from dcompile.record import Recorder, constant
from dcompile.strategy import Verify, walk
from dcompile.strategy.drafts import Drawn, Rule
from dcompile.trees import Tree, chain
from tests.lower.law import law_error, model
from tests.lower.test_permuted import xlnet
from tests.passes.rows import read

START = 2
TEXT = """strategy s {
  model lm: permutation
  state place: float[canvas] = 0.0
  state guess: token[canvas] = 0
  canvas answer = masked(length)
  p = lm(everything, order: place)
  q = lm(everything, order: place, tokens: guess)
  commit guess at masked by rejection(q, p)
}"""
Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Draw = Callable[[Tensor, Tensor], Tensor]


def judged(draw: Draw = sampling.draw, swapped: bool = False) -> Callable[[Rule, Tree, Drawn, int, int], Step]:
    """The statement alone, in float64, on the positions of a chain and one more, which stand in mixed order. The last
    one's token is drawn from the law that judges it, so it is kept: the token behind those that were drafted."""

    def build(rule: Rule, tree: Tree, drawn: Drawn, vocab: int, batch: int) -> Step:
        text, recorder, count = read(TEXT), Recorder({}), tree.size
        places = [START + (2 * n + 1) % count if count % 2 else START + n for n in range(count)]
        capacity = START + count
        ctx = Context(text, xlnet(), recorder, batch, capacity, True, value, models=used(text, {"lm": xlnet()}))
        (stmt,) = (n for n in walk(text.body) if isinstance(n, Verify))
        slot = {place: n for n, place in enumerate(places)}
        back = [slot.get(i, 0) for i in range(capacity)]
        with recorder.recording():
            tokens = recorder.input("drafted", (batch, count), torch.int64)
            p, q = (recorder.input(name, (batch, count, vocab), torch.float64) for name in "pq")
            u = recorder.input("u", (batch, count), torch.float64)
            _inputs(ctx, 0)
            declare(ctx)
            last = sampling.draw(p[:, -1:], u[:, :1])
            guess = torch.cat([tokens[:, 1:], last], 1)
            draft = torch.cat([q[:, :-1], p[:, -1:]], 1)
            own = torch.cat([u[:, 1:], u[:, :1] * 0 + 0.5], 1)
            at = constant(back)
            ctx.values["guess"] = torch.index_select(guess, 1, at)
            ctx.values["place"] = constant([[float(b) for b in back]]).expand(batch, capacity)
            ctx.values["masked"] = (torch.arange(capacity) >= START).reshape(1, -1).expand(batch, capacity)
            laws = {"p": torch.index_select(draft, 1, at), "q": torch.index_select(p, 1, at)}
            numbers = iter([torch.index_select(own, 1, at), u[:, :1].expand(batch, capacity)])
            ctx.dists = {name: ("q" if (name == "q") != swapped else "p") for name in "pq"}  # type: ignore[misc]
            with (
                mock.patch.object(permuted.scores, "law", lambda _, name, __: laws[name]),
                mock.patch.object(permuted, "uniform", lambda *key: next(numbers)),
                mock.patch.object(permuted.sampling, "draw", draw),
            ):
                permuted.verify(ctx, stmt)
            module = recorder.finish([ctx.values["tokens"], ctx.values["masked"]])
        names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
        rest = controls(batch, capacity)

        def run(drafted: Tensor, live: Tensor, p: Tensor, q: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            given = {**rest, "drafted": drafted, "p": p, "q": q, "u": u}
            written, masked = interpret(module, *[given[name] for name in names])
            done = (~masked)[:, places].to(torch.int64)
            number = done.sum(1)
            assert torch.equal(done.cumprod(1), done), "those before in the order are written first"
            return number - 1, written[:, places].gather(1, number.unsqueeze(1) - 1).squeeze(1)

        return run

    return build


def controls(batch: int, capacity: int) -> dict[str, Tensor]:
    off = {"pad": 0, "start": START, "length": capacity - START, "top_k": 0, "min_length": 0, "seed": 0}
    floats = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "penalty": 1.0}
    return {
        "tokens": torch.zeros(batch, capacity, dtype=torch.int64),
        "banned": torch.zeros(xlnet().facts.vocab, dtype=torch.bool),
        "eos": torch.full((EOS_SLOTS,), -1),
        **{name: torch.full((batch,), number) for name, number in {**off, **floats}.items()},
    }


def error(length: int, vocab: int, holes: float = 0.0, **how: bool | Draw) -> float:
    target, drafter = model(vocab, length + 1, 5, holes), model(vocab, length + 1, 105, holes)
    return law_error("rejection", chain(length), "sample", target, drafter, build=judged(**how))  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "vocab", "holes"), [(1, 4, 0.0), (2, 3, 0.0), (2, 3, 0.4), (3, 3, 0.0)])
def test_the_law_is_that_of_one_position_at_a_time(length: int, vocab: int, holes: float) -> None:
    assert error(length, vocab, holes) < 1e-12


def test_a_planted_fault_is_seen() -> None:
    assert error(2, 3, swapped=True) > 1e-3
    real = sampling.draw
    assert error(2, 3, draw=lambda law, u: real(law * law, u)) > 1e-3
