"""Orders without TVM's sort, whose call cannot be written in C: TVM 0.27 declares its arguments in the middle of an
expression. An element's place is how many come before it: n * n comparisons, which a compiler makes vectors of."""

# mypy: ignore-errors
# TVMScript: annotations are values, and the functions are read as text.

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T


@cache
def order(rows: int, n: int, dtype: str, descending: bool) -> Any:
    """Indices that sort each row; ties keep their order."""

    def before(a, b, j, i):
        first = a > b if descending else a < b
        return T.Or(first, T.And(a == b, j < i))

    @T.prim_func(private=True, s_tir=True)
    def order_by_counting(x: T.Buffer((rows, n), dtype), y: T.Buffer((rows, n), "int64")):
        T.func_attr({"tir.noalias": True, "op_pattern": 8})  # opaque: fused with nothing
        place = T.sblock_alloc_buffer((1,), "int64", scope="local")
        for row, i in T.grid(rows, n):
            with T.sblock("place"):
                place[0] = T.int64(0)
                for j in T.serial(n):
                    place[0] = place[0] + T.Cast("int64", before(x[row, j], x[row, i], j, i))
                y[row, place[0]] = T.int64(i)

    return order_by_counting
