"""Threefry-2x32-20 (Salmon et al. 2011) on int64 lanes, spelled so that every backend gives the same bits.

Shifts are products and quotients by tensor constants (ops.md: TVM imports neither shifts nor division by a number).
"""

from __future__ import annotations

import torch
from torch import Tensor

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
WORDS = 1 << 32


def uniform(seed: Tensor, stream: int, position: Tensor, visit: Tensor) -> Tensor:
    """One float32 in (0, 1) for each element: key (low half of seed, stream), counter (position, visit)."""
    word = word_of(seed, torch.full_like(seed, stream), position, visit)
    return (word // _word(512)).to(torch.float32) * 2.0**-23 + 2.0**-24


def any_token(seed: Tensor, stream: int, position: Tensor, visit: Tensor, vocab: int) -> Tensor:
    """A token of the vocabulary for each element, each as likely as another."""
    word = word_of(seed, torch.full_like(seed, stream), position, visit)
    return word * vocab // _word(WORDS)


def word_of(key0: Tensor, key1: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """The first output word of the block cipher, 32 bits in an int64."""
    keys = [_low(key0), _low(key1)]
    keys.append((keys[0] ^ keys[1]) ^ _word(PARITY))
    a, b = (_low(x0) + keys[0]) % WORDS, (_low(x1) + keys[1]) % WORDS
    for step in range(5):
        for turn in ROTATIONS[step % 2]:
            a = (a + b) % WORDS
            b = _rotate(b, turn) ^ a
        a = (a + keys[(step + 1) % 3]) % WORDS
        b = (b + keys[(step + 2) % 3] + (step + 1)) % WORDS
    return a


def _low(x: Tensor) -> Tensor:
    return x % WORDS


def _rotate(x: Tensor, turn: int) -> Tensor:
    return (x * (1 << turn)) % WORDS + x // _word(1 << (32 - turn))


def _word(value: int) -> Tensor:
    return torch.full((1,), value, dtype=torch.int64)
