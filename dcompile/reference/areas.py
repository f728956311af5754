"""Regions by their nature and by their extent, as ascending positions."""

from __future__ import annotations

from dcompile.reference.row import Row


def area(row: Row, name: str) -> list[int]:
    """The positions of an Area."""
    live = range(row.end)
    match name:
        case "everything":
            return list(live)
        case "prompt":
            return list(range(row.start))
        case "answer":
            return list(range(row.start, row.end))
        case "masked":
            return [i for i in live if row.masked[i]]
        case "last":
            return [row.run - 1]
    raise AssertionError(name)


def near(row: Row, kind: str, inside: list[int]) -> list[int]:
    """The positions of a Near of those `inside`."""
    if not inside:
        return []
    first, last = inside[0], inside[-1]
    ranges = {
        "before": range(first - 1, first),
        "after": range(last + 1, last + 2),
        "first": range(first, first + 1),
        "from": range(first, row.end),
        "upto": range(first),
    }
    return [i for i in ranges[kind] if 0 <= i < row.end]


def whole(inside: list[int], size: int) -> list[int]:
    """The longest run of complete blocks, counted from position 0, among those `inside`."""
    within = set(inside)
    runs: list[list[int]] = [[]]
    for block in range(max(inside, default=-1) // size + 1):
        positions = range(block * size, block * size + size)
        if within.issuperset(positions):
            runs[-1].extend(positions)
        else:
            runs.append([])
    return max(runs, key=len)
