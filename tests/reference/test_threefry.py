"""The generator against the known answers of its authors (Random123, `kat_vectors`)."""

from __future__ import annotations

import pytest

from dcompile.reference.threefry import threefry, uniform


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(counter: tuple[int, int], key: tuple[int, int], words: tuple[int, int]) -> None:
    assert threefry(key, counter) == words


def test_uniforms_lie_inside_and_are_spread() -> None:
    drawn = [uniform(7, 1, position, visit) for position in range(64) for visit in range(64)]
    assert 0 < min(drawn) < 0.01 and 0.99 < max(drawn) < 1
    assert abs(sum(drawn) / len(drawn) - 0.5) < 0.02
    assert len(set(drawn)) > 4090


def test_every_part_of_the_key_matters() -> None:
    base = uniform(1, 2, 3, 4)
    assert base == uniform(1 + 2**32, 2, 3, 4)  # the low word of a seed
    assert base not in (uniform(2, 2, 3, 4), uniform(1, 3, 3, 4), uniform(1, 2, 4, 4), uniform(1, 2, 3, 5))
