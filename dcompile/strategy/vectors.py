"""Vectors: as many float32 numbers as the first model's hidden state has, one vector a row or one for each node.

`Type.base` "vector" is such a value, "scores" one number for each token of the vocabulary, which only `Ranked` reads.
Between vectors `Op` knows `add sub mul div neg silu select`, by their numbers; a float stands for a vector of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dcompile.strategy.drafts import NodeFact
from dcompile.strategy.expressions import Expr, Literal, Op
from dcompile.trees import Tree


@dataclass(frozen=True)
class Hidden(Expr):
    """The hidden state behind the last norm, from which the head of call `dist` made its prediction (vector)."""

    dist: str


@dataclass(frozen=True)
class Embedding(Expr):
    """The first model's embedding of a token, as it is fed (vector); of no token (below 0) any vector."""

    of: Expr


@dataclass(frozen=True)
class Logits(Expr):
    """What the first model's head makes of a vector (scores)."""

    of: Expr


@dataclass(frozen=True)
class Applied(Expr):
    """What network `number` (from 0) of a module makes of the vectors `args`, one behind the other: a float, scores, or
    the vector `part` (from 0) of those that it gives (`Module.gives`)."""

    module: str
    number: Expr
    args: tuple[Expr, ...]
    part: Expr


@dataclass(frozen=True)
class Ranked(Expr):
    """The `rank`th likeliest token by scores, from 0; of equal ones the lowest is the likelier (token)."""

    of: Expr
    rank: Expr


@dataclass(frozen=True)
class Own(Expr):
    """The value `name` of `Draft.own` at each node of a draft; at the root, the row's variable of that name."""

    draft: str
    name: str


@dataclass(frozen=True)
class AtLast(Expr):
    """`value` (over the nodes of a draft) at the last node that its Accept took; at the root where it took none."""

    draft: str
    value: Expr


def at_build(expr: Expr, tree: Tree) -> tuple[int, ...] | None:
    """An int or a truth value of every node of a tree, if the tree alone decides it."""
    match expr:
        case Literal(value=v) if not isinstance(v, float):
            return (int(v),) * tree.size
        case NodeFact(name=name) if tree.growth is None:
            return tree.fact(name)
        case Op(op=op, args=args) if op in WHOLE:
            known = [k for k in (at_build(a, tree) for a in args) if k is not None]
            if len(known) == len(args):
                return tuple(int(WHOLE[op](*values)) for values in zip(*known, strict=True))
    return None


WHOLE: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a,
    "floordiv": lambda a, b: a // b if b else 0, "mod": lambda a, b: a % b if b else 0, "min": min, "max": max,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "and": lambda a, b: a and b, "or": lambda a, b: a or b,
    "not": lambda a: not a, "select": lambda c, a, b: a if c else b, "abs": abs,
}  # fmt: skip
