"""Feed only the rows of a prompt's chunk that hold something.

A Program's shapes are fixed, so a prompt is stored a whole chunk at a time, dead slots included. ORT works on whatever
length its tensors have when it runs. So a chunk has a width that divides nothing else, a prime: wherever a shape of the
loop's body holds it, the number of live rows stands in its place, and what was made with the whole width is cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from dcompile.model import Facts

# Without 7, 73 and 127: they divide 2**63 - 1, the end of a slice that goes to the end.
PRIMES = (97, 89, 83, 79, 71, 67, 61, 59, 53, 47, 43, 41, 37, 31, 29, 23, 19, 17, 13, 11)


def sizes(models: Iterable[Facts], weights: Iterable[tuple[int, ...]], batch: int, capacity: int) -> frozenset[int]:
    """The sizes of these models, of their weights' shapes and of the canvas; empty where a batch has several rows,
    which then lie one behind the other."""
    found = {capacity, *(n for shape in weights for n in shape)}
    for facts in models:
        together = (facts.heads + 2 * facts.kv_heads) * facts.head_dim
        found |= {facts.hidden, facts.heads, facts.kv_heads, facts.head_dim, facts.vocab, together}
    return frozenset(found if batch == 1 else ())


def marks(width: int, sizes: frozenset[int]) -> bool:
    """Whether none of the sizes is a multiple of this width."""
    return bool(sizes) and width in PRIMES and all(size % width for size in sizes)


def chunk(sizes: frozenset[int], capacity: int) -> int | None:
    """The widest chunk that marks rows, up to the canvas; None where there is none."""
    return next((n for n in PRIMES if n <= capacity and marks(n, sizes)), None)


@dataclass(frozen=True)
class Live:
    """The width of a chunk, and the value [1] that says how many of its rows hold something."""

    width: int
    count: ir.Value


@dataclass(frozen=True)
class Rows:
    """A size that the number of live rows decides: so many times that number, and `more`."""

    times: int
    more: int = 0


def parts(values: Iterable[int], width: int, sizes: frozenset[int]) -> list[Rows | tuple[int, ...]]:
    """A list of sizes in runs of plain ones and, alone, those that hold the width of a chunk: multiples of it, and sums
    of it and one of the model's `sizes` (a canvas, and behind it what is fed)."""
    out: list[Rows | tuple[int, ...]] = []
    for value in values:
        if value > 0 and value % width == 0:
            out.append(Rows(value // width))
        elif value - width in sizes and value not in sizes:
            out.append(Rows(1, value - width))
        elif out and isinstance(out[-1], tuple):
            out[-1] = (*out[-1], value)
        else:
            out.append((value,))
    return out
