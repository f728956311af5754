"""Reading and writing by index."""

from __future__ import annotations

import torch
from torch.nn import functional

from tests.backends.op_cases.inputs import TIES, B, Case, K, P, X, Y, floats, ints

CASES: dict[str, Case] = {
    "gather": (lambda x, i: torch.gather(x, 1, i), (K[0], ints(5, 3, high=6))),
    "gather_bool": (lambda x, i: torch.gather(x, 1, i), (B, ints(3, 6, high=4))),
    "scatter": (lambda x, i, s: x.scatter(1, i, s), (X, torch.tensor([[1, 3], [0, 2], [2, 1]]), Y)),
    "scatter_value": (lambda x, i: x.scatter(1, i, 9.0), (X, torch.tensor([[1], [0], [2]]))),
    "scatter_bool": (lambda x, i: x.scatter(1, i, True), (B, torch.tensor([[1], [0], [2]]))),
    "scatter_4d": (
        lambda x, i, s: x.scatter(2, i, s),
        (
            floats(2, 2, 5, 3),
            torch.tensor([1, 4]).reshape(1, 1, 2, 1).expand(2, 2, 2, 3).contiguous(),
            floats(2, 2, 2, 3),
        ),
    ),
    "scatter_add": (lambda x, i, s: x.scatter_add(1, i, s), (X, ints(3, 4, high=4), Y)),
    "index_select": (lambda x, i: torch.index_select(x, 1, i), (K, torch.tensor([3, 0]))),
    "index_rows": (lambda x, i: x[i], (X, torch.tensor([2, 0, 2]))),
    "index_pairs": (lambda x, b, i: x[b, i], (K, torch.tensor([[0], [1]]), torch.tensor([[3, 1], [0, 4]]))),
    "index_negative": (lambda x, i: x[i], (X, torch.tensor([-1, 0]))),
    "index_middle": (lambda x, i: x[:, i], (K, torch.tensor([[3, 1], [0, 4]]))),
    "index_middle_pair": (lambda x, i, j: x[:, i, j], (K, torch.tensor([3, 1]), torch.tensor([0, 5]))),
    "index_bool_values": (lambda x, i: x[i], (B, torch.tensor([1, 1]))),
    "index_put": (lambda x, i, v: torch.index_put(x, [i], v), (X, torch.tensor([2, 0]), Y[:2])),
    "index_put_pair": (
        lambda x, b, i, v: torch.index_put(x, [b, i], v),
        (K, torch.tensor([[0], [1]]), torch.tensor([[3, 1], [0, 4]]), floats(2, 2, 6)),
    ),
    "index_put_middle": (
        lambda x, i, v: torch.ops.aten.index_put(x, [None, i], v),
        (K, torch.tensor([3, 1]), floats(2, 2, 6)),
    ),
    "index_put_number": (lambda x, i, v: torch.index_put(x, [i], v), (X, torch.tensor([1]), torch.tensor(5.0))),
    "index_put_add": (lambda x, i, v: torch.index_put(x, [i], v, accumulate=True), (X, torch.tensor([1, 1]), Y[:2])),
    "index_copy": (lambda x, i, v: torch.index_copy(x, 1, i, v), (K, torch.tensor([3, 1]), floats(2, 2, 6))),
    "slice_scatter": (lambda x, v: torch.slice_scatter(x, v, 1, 1, 3), (K, floats(2, 2, 6))),
    "slice_scatter_step": (lambda x, v: torch.slice_scatter(x, v, 1, 0, 5, 2), (K, floats(2, 3, 6))),
    "select_scatter": (lambda x, v: torch.select_scatter(x, v, 1, -1), (K, floats(2, 6))),
    "embedding": (functional.embedding, (ints(2, 3, high=5), floats(5, 4))),
    "one_hot": (lambda i: (i[..., None] == torch.arange(5)).to(torch.float32), (ints(2, 3, high=5),)),
    "pairwise_rank": (
        lambda x: (
            (x[:, None, :] > x[:, :, None])
            | ((x[:, None, :] == x[:, :, None]) & (torch.arange(6)[None, None, :] < torch.arange(6)[None, :, None]))
        ).sum(-1),
        (TIES,),
    ),
    "compare_and_sum": (
        lambda x, u: (x.cumsum(-1) <= u).sum(-1),
        (torch.softmax(K[0], -1), P[0].repeat(2)[:5, None] / 9),
    ),
}
