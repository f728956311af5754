"""Parts of a piece of work: what is inside what, and that sums hold."""

from __future__ import annotations

import time

import pytest

from dcompile.stopwatch import lines, part, profiling


def test_parts_stand_inside_each_other() -> None:
    with profiling("all") as spent:
        with part("first"):
            time.sleep(0.01)
            with part("inner"):
                time.sleep(0.02)
        for _ in range(2):
            with part("second"):
                pass
    assert [(p.name, [q.name for q in p.parts]) for p in spent.parts] == [("first", ["inner"]), ("second", [])]
    first = spent.parts[0]
    assert spent.seconds >= first.seconds >= first.parts[0].seconds + 0.01
    assert first.own == first.seconds - first.parts[0].seconds
    assert [name for name, *_ in lines(spent)][:4] == ["all", "  first", "    inner", "    (between)"]


def test_memory_is_counted_anew_for_each_part() -> None:
    with profiling() as spent:
        with part("much"):
            bytes_ = bytearray(200_000_000)
            bytes_[::4096] = b"x" * len(bytes_[::4096])
            del bytes_
        with part("little"):
            pass
    much, little = spent.parts
    if much.peak is None or little.peak is None:
        pytest.skip("this system does not tell")
    assert spent.peak == much.peak and much.peak > little.peak + 100_000_000


def test_nothing_is_kept_where_nobody_asks() -> None:
    with part("alone"):
        pass
    with profiling() as spent:
        pass
    assert spent.parts == [] and list(lines(spent)) == [("total", spent, spent.seconds)]
