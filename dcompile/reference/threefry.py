"""Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") on Python ints."""

from __future__ import annotations

WORD = 0xFFFFFFFF
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA


def threefry(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Two 32-bit words out of two words of key and two of counter."""
    keys = (key[0] & WORD, key[1] & WORD, PARITY ^ (key[0] & WORD) ^ (key[1] & WORD))
    x, y = (counter[0] + keys[0]) & WORD, (counter[1] + keys[1]) & WORD
    for turn in range(20):
        x = (x + y) & WORD
        by = ROTATIONS[turn % 8]
        y = ((y << by | y >> (32 - by)) & WORD) ^ x
        if turn % 4 == 3:
            n = turn // 4 + 1
            x = (x + keys[n % 3]) & WORD
            y = (y + keys[(n + 1) % 3] + n) & WORD
    return x, y


def any_token(seed: int, stream: int, position: int, visit: int, vocab: int) -> int:
    """A token of the vocabulary, each as likely as another."""
    return threefry((seed, stream), (position, visit))[0] * vocab >> 32


def uniform(seed: int, stream: int, position: int, visit: int) -> float:
    """A number in (0, 1), exact in float32: key (low word of seed, stream), counter (position, visit)."""
    word = threefry((seed, stream), (position, visit))[0]
    return (word // 512) * 2.0**-23 + 2.0**-24
