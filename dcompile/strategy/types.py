"""What a value of a Strategy is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf

Base = OneOf["int", "float", "bool", "token", "dist", "vector", "scores"]


@dataclass(frozen=True)
class Type:
    """What an expression is: `base`, whether there is one value for each position, and whether for each token of the
    vocabulary too. A `dist` is a distribution per position: float32 log-probabilities, NONE everywhere for `none`.
    A `vector` holds as many float32 numbers as the model's hidden state, `scores` one for each token
    (strategy/vectors.py)."""

    base: Base
    each: bool = False
    wide: bool = False

    def __str__(self) -> str:
        if self == REGION:
            return "region"
        if self.base == "dist":
            return "dist"
        return self.base + " per position" * self.each + " and token" * self.wide


INT, FLOAT, BOOL, TOKEN = Type("int"), Type("float"), Type("bool"), Type("token")
REGION, FIELD, TOKENS = Type("bool", True), Type("float", True), Type("token", True)
VECTOR, VECTORS, SCORES = Type("vector"), Type("vector", True), Type("scores")
DIST, TABLE = Type("dist", True, True), Type("float", True, True)
NONE = 1.0  # it and all above: no logarithm of a probability
