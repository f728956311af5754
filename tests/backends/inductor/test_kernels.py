"""The kernels of the target `cpu` against what their operations mean; all in one graph, which is compiled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from dcompile.backends.inductor.blocks import Packed, embed_packed, linear_packed, pack, unpack
from dcompile.backends.inductor.tiles import embed_rough, linear_rough, pack_tiles, unpack_tiles
from dcompile.models.blocks import Bits, Blocks, nearest
from dcompile.ops import FLOOR, attend
from tests.backends.harness import through
from tests.backends.op_cases.inputs import bools, floats

torch.set_num_threads(1)
Case = tuple[Callable[..., Tensor], list[Tensor]]


def packed(rows: int, inner: int, bits: str) -> Packed:
    part = matrix(rows, inner, bits)
    return pack(part.codes, part.scale, part.least, part.bits)


def tiled(rows: int, inner: int, bits: str) -> Packed:
    part = matrix(rows, inner, bits)
    return pack_tiles(part.codes, part.scale, part.least, part.bits)


def matrix(rows: int, inner: int, bits: str) -> Blocks:
    return nearest(floats(rows, inner, seed=rows), cast("Bits", bits))


def products() -> Iterator[tuple[str, Case]]:
    """Odd sizes, half a group, several pieces of columns, one row and many."""
    for bits, (columns, inner), rows in product(
        ("int4", "int4-symmetric", "int8"), ((7, 32), (66, 64), (5, 160), (48, 192)), (1, 2, 3, 4, 9, 13, 33)
    ):
        part = packed(columns, inner, bits)
        given = [floats(1, rows, inner), part.codes, part.steps]
        yield f"{bits} {columns}x{inner}, {rows} rows", (product_of(linear_packed, part), given)
        few = rows // 2 + 1
        yield f"{bits} {columns}x{inner}, {few} of {rows} rows", (product_of(linear_packed, part, few), given)


def rough_products() -> Iterator[tuple[str, Case]]:
    """The same, with rows that are rounded on the way; their rounding is the operation's."""
    for bits, (columns, inner), rows in product(
        ("int4", "int4-symmetric", "int8"), ((7, 32), (66, 64), (37, 192)), (1, 2, 3, 8, 9, 16, 33)
    ):
        part = tiled(columns, inner, bits)
        given = [floats(1, rows, inner), part.codes, part.steps]
        yield f"rough {bits} {columns}x{inner}, {rows} rows", (product_of(linear_rough, part), given)
        few = rows // 2 + 1
        yield f"rough {bits} {columns}x{inner}, {few} of {rows} rows", (product_of(linear_rough, part, few), given)


def product_of(kind: Callable[..., Tensor], part: Packed, live: int | None = None) -> Callable[..., Tensor]:
    """Of x, codes and steps; of the first rows, where it is said how many are live."""
    form = {"bits": part.bits, "block": part.block, "symmetric": part.symmetric, "columns": part.shape[0]}

    def product(x: Tensor, codes: Tensor, steps: Tensor) -> Tensor:
        counts = [] if live is None else [torch.full((1,), live)]
        return kind(x, codes, steps, live=counts, **form)[:, :live]

    return product


def rough_rows() -> Iterator[tuple[str, Case]]:
    for bits, inner in product(("int4", "int4-symmetric", "int8"), (32, 64, 160)):
        part = tiled(21, inner, bits)
        call = partial(embed_rough, bits=part.bits, block=part.block, symmetric=part.symmetric, inner=inner)
        yield f"rough {bits} rows of {inner}", (call, [part.codes, part.steps, torch.tensor([[0, 16, 3], [20, 1, 5]])])


def rows() -> Iterator[tuple[str, Case]]:
    for bits, inner in product(("int4", "int4-symmetric", "int8"), (32, 64, 160)):
        part = packed(7, inner, bits)
        call = partial(embed_packed, bits=part.bits, block=part.block, symmetric=part.symmetric, inner=inner)
        yield f"{bits} rows of {inner}", (call, [part.codes, part.steps, torch.tensor([[0, 6, 3], [1, 1, 5]])])


def attentions() -> Iterator[tuple[str, Case]]:
    """Heads that share keys, sizes that no vector divides, rows that see nothing, keys that lie transposed."""
    for dim, width, parts, dark in product((4, 24, 64), (1, 3, 17), ((5,), (40, 3)), (False, True)):
        tensors = [floats(2, 6, width, dim)]
        for i, slots in enumerate(parts):
            seen = bools(2, 1, width, slots, seed=i) | torch.zeros(2, 1, width, slots, dtype=torch.bool).index_fill(
                -1, torch.tensor([0]), not dark
            )
            if dark:
                seen[1] = False
            tensors += [floats(2, slots, 3, dim, seed=i), floats(2, 3, slots, dim, seed=i + 9), bias(seen)]
        yield f"attend: {dim} wide, {width} rows over {parts}, {dark=}", (attended, tensors)


def bias(seen: Tensor) -> Tensor:
    return torch.where(seen, 0.0, FLOOR)


def attended(q: Tensor, *parts: Tensor) -> Tensor:
    k = [part.transpose(1, 2) for part in parts[0::3]]
    return attend(q, k, list(parts[1::3]), list(parts[2::3]), 0.3)


CASES = dict([*products(), *rough_products(), *rows(), *rough_rows(), *attentions()])


@pytest.mark.slow
def test_kernels_give_what_their_operations_mean() -> None:
    given = [x for _, inputs in CASES.values() for x in inputs]

    def everything(*tensors: Tensor) -> list[Tensor]:
        rest = iter(tensors)
        return [call(*[next(rest) for _ in inputs]) for call, inputs in CASES.values()]

    found = through("cpu")(make_fx(everything, tracing_mode="fake")(*given), given)
    wrong: dict[str, Any] = {}
    for name, have, want in zip(CASES, found, everything(*given), strict=True):
        assert have.shape == want.shape, name
        if (error := (have - want).abs().max() / want.abs().max()) > 1e-6:
            wrong[name] = error
    assert not wrong, wrong


@pytest.mark.parametrize("bits", ["int4", "int4-symmetric", "int8"])
@pytest.mark.parametrize(("rows", "inner"), [(6, 128), (5, 96), (1, 32)])
def test_packing_changes_no_weight(rows: int, inner: int, bits: str) -> None:
    part = packed(rows, inner, bits)
    assert part.shape == (rows, inner)
    weights = unpack(part.codes, part.steps, *part.form, rows, inner)
    assert torch.equal(weights, matrix(rows, inner, bits).floats)
    part = tiled(rows, inner, bits)
    weights = unpack_tiles(part.codes, part.steps, part.bits, part.symmetric, rows)
    assert torch.allclose(weights, matrix(rows, inner, bits).floats, atol=1e-6), "the offset is added last"
