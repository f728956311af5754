"""Matrix products as TIR. TVM's own, unscheduled, are one multiplication at a time: twenty times slower.

Each element is a sum in a fixed order, so that a result depends neither on threads nor on neighbouring rows, nor on how
many floats an instruction of the processor handles: thirty-two partial sums, in one vector of 32 that LLVM cuts.
Sums lie in buffers of scope `global`: only such are put on the stack, and so in registers, and only below 1024 bytes.
"""

# mypy: ignore-errors
# TVMScript: annotations are values, and the functions are read as text.

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

LANES = 32  # which a GGUF file's block of weights fills; wider blocks have a multiple
PARALLEL = 1 << 17  # products below which starting threads costs more than it saves


def tile(size: int, most: int) -> int:
    """The largest number up to `most` that divides `size`."""
    return next(n for n in range(most, 0, -1) if size % n == 0)


def loops(vectors: bool, work: int) -> tuple[Any, Any]:
    """How lanes run and how rows do. C has no vectors: there the compiler finds them in plain loops."""
    return T.vectorized if vectors else T.serial, T.parallel if work >= PARALLEL else T.serial


@cache
def by_rows(vectors: bool, batch: int, m: int, n: int, k: int) -> Any:
    """y[b, i, j] = sum_k x[b, i, k] * w[b, j, k]; both operands are read along rows.

    Partial sums by k mod 32, halves added to halves, and the rest of k in order behind them. One row of w at a time
    where x is one row: memory gives one stream at nearly twice the rate of four. Else two by two, so that each number
    that is read serves twice.
    """
    tm = 2 if m % 2 == 0 else tile(m, 3)
    tn = tile(n, 2) if m > 1 else 1
    whole = k // LANES
    lanes, outer = loops(vectors, batch * m * n * k)

    @T.prim_func(private=True)
    def matmul_by_rows(
        x: T.Buffer((batch, m, k), "float32"),
        w: T.Buffer((batch, n, k), "float32"),
        y: T.Buffer((batch, m, n), "float32"),
    ):
        T.func_attr({"tir.noalias": True})
        for at in outer(batch * (n // tn)):
            for m0 in T.serial(m // tm):
                acc = T.alloc_buffer((tm, tn, LANES), "float32", scope="global")
                for i in T.unroll(tm):
                    for j in T.unroll(tn):
                        for lane in lanes(LANES):
                            acc[i, j, lane] = T.float32(0)
                for k0 in T.serial(whole):
                    for i in T.unroll(tm):
                        for j in T.unroll(tn):
                            for lane in lanes(LANES):
                                acc[i, j, lane] = (
                                    acc[i, j, lane]
                                    + x[at // (n // tn), m0 * tm + i, k0 * LANES + lane]
                                    * w[at // (n // tn), at % (n // tn) * tn + j, k0 * LANES + lane]
                                )
                for i in T.unroll(tm):
                    for j in T.unroll(tn):
                        for lane in lanes(16):
                            acc[i, j, lane] = acc[i, j, lane] + acc[i, j, lane + 16]
                        for lane in lanes(8):
                            acc[i, j, lane] = acc[i, j, lane] + acc[i, j, lane + 8]
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
def by_columns(vectors: bool, batch: int, m: int, n: int, k: int) -> Any:
    """y[b, i, j] = sum_k x[b, i, k] * w[b, k, j], added in the order of k; the second operand is read along rows."""
    tm, width = tile(m, 4), tile(n, 64 if m < 4 else 32)
    lanes, outer = loops(vectors, batch * m * n * k)

    @T.prim_func(private=True)
    def matmul_by_columns(
        x: T.Buffer((batch, m, k), "float32"),
        w: T.Buffer((batch, k, n), "float32"),
        y: T.Buffer((batch, m, n), "float32"),
    ):
        T.func_attr({"tir.noalias": True})
        for at in outer(batch * (m // tm) * (n // width)):
            acc = T.alloc_buffer((tm, width), "float32", scope="global")
            for i in T.unroll(tm):
                for lane in lanes(width):
                    acc[i, lane] = T.float32(0)
            for k0 in T.serial(k):
                for i in T.unroll(tm):
                    for lane in lanes(width):
                        acc[i, lane] = (
                            acc[i, lane]
                            + x[at // (n // width) // (m // tm), at // (n // width) % (m // tm) * tm + i, k0]
                            * w[at // (n // width) // (m // tm), k0, at % (n // width) * width + lane]
                        )
            for i in T.unroll(tm):
                for lane in lanes(width):
                    y[
                        at // (n // width) // (m // tm),
                        at // (n // width) % (m // tm) * tm + i,
                        at % (n // width) * width + lane,
                    ] = acc[i, lane]

    return matmul_by_columns
