"""The generator in the graph gives the bits of the published vectors, and of the oracle's plain one."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dcompile.lower.threefry import uniform, word_of
from dcompile.reference.threefry import threefry
from dcompile.reference.threefry import uniform as plain_uniform

words = st.integers(0, 2**32 - 1)


def first_word(key: tuple[int, int], counter: tuple[int, int]) -> int:
    lanes = (torch.tensor([x]) for x in (*key, *counter))
    return int(word_of(*lanes))


def test_known_answers() -> None:
    """The vectors that Random123 ships for threefry2x32 with 20 rounds."""
    ones = (0xFFFFFFFF, 0xFFFFFFFF)
    assert first_word((0, 0), (0, 0)) == 0x6B200159
    assert first_word(ones, ones) == 0x1CB996FC
    assert first_word((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3)) == 0xC4923A9C


@given(st.tuples(words, words), st.tuples(words, words))
def test_the_oracles_bits(key: tuple[int, int], counter: tuple[int, int]) -> None:
    assert first_word(key, counter) == threefry(key, counter)[0]


@given(st.integers(0, 2**63 - 1), st.integers(0, 9), st.lists(st.integers(0, 4000), min_size=1), st.integers(0, 90))
def test_the_oracles_uniforms(seed: int, stream: int, positions: list[int], visit: int) -> None:
    found = uniform(torch.tensor([[seed]]), stream, torch.tensor([positions]), torch.full((1, len(positions)), visit))
    assert found.dtype == torch.float32
    assert found[0].tolist() == [plain_uniform(seed, stream, p, visit) for p in positions]
