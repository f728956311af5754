"""Matrix products as TIR. TVM's own, unscheduled, are one multiplication at a time: twenty times slower.

Each element is a sum in a fixed order, so that a result depends neither on threads nor on neighbouring rows.
"""

# mypy: ignore-errors
# TVMScript: annotations are values, and the functions are read as text.

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

LANES = 8
PARALLEL = 1 << 17  # products below which starting threads costs more than it saves


def tile(size: int, most: int) -> int:
    """The largest number up to `most` that divides `size`."""
    return next(n for n in range(most, 0, -1) if size % n == 0)


@cache
def by_rows(batch: int, m: int, n: int, k: int) -> Any:
    """y[b, i, j] = sum_k x[b, i, k] * w[b, j, k]; both operands are read along rows.

    Eight partial sums by k mod 8, added in pairs, and the rest of k in order behind them.
    """
    tm, tn = tile(m, 4), tile(n, 4)
    whole = k // LANES
    outer = T.parallel if batch * m * n * k >= PARALLEL else T.serial

    @T.prim_func(private=True)
    def matmul_by_rows(
        x: T.Buffer((batch, m, k), "float32"),
        w: T.Buffer((batch, n, k), "float32"),
        y: T.Buffer((batch, m, n), "float32"),
    ):
        T.func_attr({"tir.noalias": True})
        for at in outer(batch * (n // tn)):
            for m0 in T.serial(m // tm):
                acc = T.alloc_buffer((tm, tn, LANES), "float32", scope="local")
                for i in T.unroll(tm):
                    for j in T.unroll(tn):
                        for lane in T.vectorized(LANES):
                            acc[i, j, lane] = T.float32(0)
                for k0 in T.serial(whole):
                    for i in T.unroll(tm):
                        for j in T.unroll(tn):
                            for lane in T.vectorized(LANES):
                                acc[i, j, lane] = (
                                    acc[i, j, lane]
                                    + x[at // (n // tn), m0 * tm + i, k0 * LANES + lane]
                                    * w[at // (n // tn), at % (n // tn) * tn + j, k0 * LANES + lane]
                                )
                for i in T.unroll(tm):
                    for j in T.unroll(tn):
                        y[at // (n // tn), m0 * tm + i, at % (n // tn) * tn + j] = (
                            (acc[i, j, 0] + acc[i, j, 4]) + (acc[i, j, 1] + acc[i, j, 5])
                        ) + ((acc[i, j, 2] + acc[i, j, 6]) + (acc[i, j, 3] + acc[i, j, 7]))
                        for k1 in T.serial(k - whole * LANES):
                            y[at // (n // tn), m0 * tm + i, at % (n // tn) * tn + j] = (
                                y[at // (n // tn), m0 * tm + i, at % (n // tn) * tn + j]
                                + x[at // (n // tn), m0 * tm + i, whole * LANES + k1]
                                * w[at // (n // tn), at % (n // tn) * tn + j, whole * LANES + k1]
                            )

    return matmul_by_rows


@cache
def by_columns(batch: int, m: int, n: int, k: int) -> Any:
    """y[b, i, j] = sum_k x[b, i, k] * w[b, k, j], added in the order of k; the second operand is read along rows."""
    tm, lanes = tile(m, 4), tile(n, 16)
    outer = T.parallel if batch * m * n * k >= PARALLEL else T.serial

    @T.prim_func(private=True)
    def matmul_by_columns(
        x: T.Buffer((batch, m, k), "float32"),
        w: T.Buffer((batch, k, n), "float32"),
        y: T.Buffer((batch, m, n), "float32"),
    ):
        T.func_attr({"tir.noalias": True})
        for at in outer(batch * (m // tm)):
            for n0 in T.serial(n // lanes):
                acc = T.alloc_buffer((tm, lanes), "float32", scope="local")
                for i in T.unroll(tm):
                    for lane in T.vectorized(lanes):
                        acc[i, lane] = T.float32(0)
                for k0 in T.serial(k):
                    for i in T.unroll(tm):
                        for lane in T.vectorized(lanes):
                            acc[i, lane] = (
                                acc[i, lane]
                                + x[at // (m // tm), at % (m // tm) * tm + i, k0]
                                * w[at // (m // tm), k0, n0 * lanes + lane]
                            )
                for i in T.unroll(tm):
                    for lane in T.vectorized(lanes):
                        y[at // (m // tm), at % (m // tm) * tm + i, n0 * lanes + lane] = acc[i, lane]

    return matmul_by_columns
