"""Products with matrices in blocks (`dcompile.ops.linear_blocks`): codes become floats in registers, block by block."""

# mypy: ignore-errors
# TVMScript: annotations are values, and the functions are read as text.

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from dcompile.backends.tvm.kernels import LANES, loops, tile

HALF = LANES // 2


@cache
def by_blocks(vectors: bool, m: int, n: int, blocks: int, share: int, packed: bool, offset: bool) -> Any:
    """y[i, j] = sum_k x[i, k] * w[j, k] with w = scale * (q - middle), or scale * q + least with `offset`.

    The sum is that of `kernels.by_rows` on w as floats, bit by bit: scale * q has fewer bits than a float32.
    A block has 32 weights; `share` blocks, one behind the other, have one scale. `packed`: two codes a byte, the lower
    half first; x then holds the even weights of a block before the odd ones.
    """
    tm = tile(m, 4)
    middle = 0 if offset else 8 if packed else 128
    lanes, outer = loops(vectors, m * n * blocks * LANES)

    @T.prim_func(private=True)
    def matmul_by_blocks(
        x: T.Buffer((m, blocks, LANES), "float32"),
        codes: T.Buffer((n, blocks, HALF if packed else LANES), "uint8"),
        scale: T.Buffer((n, blocks // share), "float16"),
        least: T.Buffer((n, blocks // share), "float16"),
        y: T.Buffer((m, n), "float32"),
    ):
        T.func_attr({"tir.noalias": True})
        for j in outer(n):
            for m0 in T.serial(m // tm):
                acc = T.alloc_buffer((tm, LANES), "float32", scope="global")
                w = T.alloc_buffer((LANES,), "float32", scope="global")
                for i in T.unroll(tm):
                    for lane in lanes(LANES):
                        acc[i, lane] = T.float32(0)
                for b in T.serial(blocks):
                    if packed:
                        for lane in lanes(HALF):
                            w[lane] = T.Cast("float32", codes[j, b, lane] & T.uint8(15))
                        for lane in lanes(HALF):
                            w[lane + HALF] = T.Cast("float32", codes[j, b, lane] >> T.uint8(4))
                    else:
                        for lane in lanes(LANES):
                            w[lane] = T.Cast("float32", codes[j, b, lane])
                    for lane in lanes(LANES):
                        w[lane] = (w[lane] - T.float32(middle)) * T.Cast("float32", scale[j, b // share])
                    if offset:
                        for lane in lanes(LANES):
                            w[lane] = w[lane] + T.Cast("float32", least[j, b // share])
                    for i in T.unroll(tm):
                        for lane in lanes(LANES):
                            acc[i, lane] = acc[i, lane] + x[m0 * tm + i, b, lane] * w[lane]
                for i in T.unroll(tm):
                    for lane in lanes(16):
                        acc[i, lane] = acc[i, lane] + acc[i, lane + 16]
                    for lane in lanes(8):
                        acc[i, lane] = acc[i, lane] + acc[i, lane + 8]
                    y[m0 * tm + i, j] = ((acc[i, 0] + acc[i, 4]) + (acc[i, 1] + acc[i, 5])) + (
                        (acc[i, 2] + acc[i, 6]) + (acc[i, 3] + acc[i, 7])
                    )

    return matmul_by_blocks
