"""What is mended in Inductor, each by the smallest graph found that it compiles wrongly or not at all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop
from torch.fx.experimental.proxy_tensor import make_fx

from tests.backends.harness import through
from tests.backends.op_cases.inputs import bools, floats

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def unseen() -> None:
    """Sizes in which two tests differ would be traced as unknown."""
    torch.compiler.reset()


def best_open(open: Tensor, score: Tensor, slots: Tensor, count: Tensor, live: Tensor, *masks: Tensor) -> list[Tensor]:
    """The best `count` open slots of each row: sorted, counted, and scattered back to where they were."""
    here = open.expand(3, 64).gather(1, slots)
    may = here.logical_and(masks[0]).logical_and(masks[1])
    key = torch.where(may, score.expand(3, 64).gather(1, slots), torch.scalar_tensor(-3e38))
    order = torch.sort(key, stable=True, descending=True)[1]
    ordered = may.gather(1, order)
    taken = ordered & (ordered.to(torch.int64).cumsum(1) <= count.reshape(-1, 1))
    back = torch.zeros_like(taken).scatter(1, order, taken)
    return [back & masks[2] & masks[3] & here & live.reshape(-1, 1)]


@pytest.mark.slow
def test_a_reader_of_a_scattered_tensor_comes_behind_the_scatter() -> None:
    slots = torch.stack([torch.randperm(64, generator=torch.Generator().manual_seed(i))[:16] for i in range(3)])
    masks = [bools(3, 16, seed=i) | bools(3, 16, seed=i + 4) for i in range(4)]
    given = [bools(1, 64), floats(1, 64), slots, torch.tensor([2, 3, 4]), torch.tensor([True] * 3), *masks]
    module = make_fx(best_open, tracing_mode="fake")(*given)
    (want,) = best_open(*given)
    assert want.any()
    assert torch.equal(through("cpu")(module, given)[0], want)


def twins(count: Tensor, start: Tensor) -> tuple[Tensor, ...]:
    """A loop that carries one value under two names, as strategies do that store the same of an answer twice."""

    def goes(count: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return count < 3

    def turn(count: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        both = torch.mm(first, second)
        return count + 1, both.clone(), both.clone()

    done: tuple[Tensor, ...] = while_loop(goes, turn, (count, start.clone(), start.clone()))
    return done


@pytest.mark.slow
def test_a_loop_may_carry_one_value_twice() -> None:
    given = [torch.tensor(0), floats(4, 4) / 2]
    module = make_fx(twins, tracing_mode="fake")(*given)
    assert all(map(torch.equal, through("cpu")(module, given), module(*given)))


def outside(count: Tensor, start: Tensor) -> tuple[Tensor, ...]:
    """A loop that reads a view from outside, of the size of the tensor itself."""
    view = torch.cat([start.unsqueeze(1)], 1).reshape(4)

    def goes(count: Tensor, total: Tensor) -> Tensor:
        return count < 5

    def turn(count: Tensor, total: Tensor) -> tuple[Tensor, ...]:
        return count + 1, total + torch.sort(view).values

    done: tuple[Tensor, ...] = while_loop(goes, turn, (count, torch.zeros_like(start)))
    return done


@pytest.mark.slow
def test_a_loop_may_read_a_view_in_each_turn() -> None:
    given = [torch.tensor(0), torch.arange(4) * 2]
    module = make_fx(outside, tracing_mode="fake")(*given)
    assert all(map(torch.equal, through("cpu")(module, given), module(*given)))
