"""Loops and branches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.backends.op_cases.inputs import Case, X, Y


def count_down(n: Tensor, x: Tensor) -> Any:
    """A loop that hands on a captured value, and one that nothing changes."""
    return torch.ops.higher_order.while_loop(
        lambda n, x, kept, step: (n > 0).any(),
        lambda n, x, kept, step: (n - 1, x + step, kept.clone()),
        (n, x, x * 2),
        (torch.full((4,), 0.5),),
    )


def nested(n: Tensor, x: Tensor) -> Any:
    def turn(i: Tensor, x: Tensor, n: Tensor) -> Any:
        def inner(j: Tensor, y: Tensor, i: Tensor) -> Any:
            return j + 1, torch.cond((j % 2 == 0).all(), lambda y: (y + 1.0,), lambda y: (y * 2.0,), (y,))[0]

        _, x = torch.ops.higher_order.while_loop(
            lambda j, y, i: (j < i).all(), inner, (torch.zeros(1, dtype=torch.int64), x), (i,)
        )
        return i + 1, x

    return torch.ops.higher_order.while_loop(
        lambda i, x, n: (i < n).all(), turn, (torch.zeros(1, dtype=torch.int64), x), (n,)
    )


def exchange(n: Tensor, a: Tensor, b: Tensor) -> Any:
    """Carried values that change places."""
    return torch.ops.higher_order.while_loop(
        lambda n, a, b: n > 0, lambda n, a, b: (n - 1, b.clone(), a.clone()), (n, a, b), ()
    )


CASES: dict[str, Case] = {
    "while_loop": (count_down, (torch.tensor([3]), X)),
    "while_never": (count_down, (torch.tensor([0]), X)),
    "while_nested": (nested, (torch.tensor([4]), X)),
    "while_exchange": (exchange, (torch.tensor(3), X, Y)),
    "cond": (
        lambda p, x, y: torch.cond(p, lambda a, b: (a + b, a.clone()), lambda a, b: (a - b, b.clone()), (x, y)),
        (torch.tensor(False), X, Y),
    ),
}
