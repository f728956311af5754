"""Expressions: pure, each of one type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf

from dcompile.source import Span
from dcompile.strategy.types import Type


@dataclass(frozen=True)
class Expr:
    """A pure expression; `type` says its shape."""

    type: Type
    span: Span


@dataclass(frozen=True)
class Literal(Expr):
    """A number or truth value known before the build (parameters become literals)."""

    value: int | float | bool


@dataclass(frozen=True)
class Name(Expr):
    """The value of a variable: a local, a `state`, the counter of a `for`, or the region of the current block."""

    name: str


@dataclass(frozen=True)
class RunInput(Expr):
    """A number given at run time, e.g. `length` (int: the answer positions asked for, before
    `Canvas.multiple` makes the canvas longer)."""

    name: str


@dataclass(frozen=True)
class Area(Expr):
    """A region by its nature. `everything` (all live positions), `prompt`, `answer`, `masked`, `last` (the last
    position of the longest committed run from the start: prompt, then answer)."""

    name: OneOf["everything", "prompt", "answer", "masked", "last"]


@dataclass(frozen=True)
class Field(Expr):
    """A fact of each position: its current `token`, or its `position` (0 at the first prompt token of the row)."""

    name: OneOf["token", "position"]


@dataclass(frozen=True)
class Op(Expr):
    """Arithmetic and logic; a row value meets a per-position value by repetition.

    `add sub mul div` (div gives float), `floordiv mod` (ints, non-negative), `neg`, `lt le gt ge eq ne`,
    `and or not` (regions: set algebra, `not` within the live canvas), `min max` (two arguments), `floor ceil` (float
    to int), `float` (int to float), `log exp sqrt cos abs`, `select` (condition, then, else). Float is float32.
    """

    op: str
    args: tuple[Expr, ...]


@dataclass(frozen=True)
class Near(Expr):
    """A region made from another one by its extent.

    `before` (the one position before its first), `after` (the one position behind its last), `from` (its first
    position and all that follow in the canvas), `upto` (all that stand before its first), `first` (its first position).
    """

    kind: OneOf["before", "after", "from", "upto", "first"]
    region: Expr


@dataclass(frozen=True)
class Whole(Expr):
    """The longest run of complete `size`-blocks, counted from position 0, that lies inside `region`."""

    region: Expr
    size: Expr


@dataclass(frozen=True)
class Dilate(Expr):
    """`region` and every live position at most `radius` away from it."""

    region: Expr
    radius: Expr


@dataclass(frozen=True)
class Unreadable(Expr):
    """The positions of `region` that a call feeding exactly `region` cannot predict: its first one on a shifted
    model, none otherwise (depends on the model adapter's `shift`)."""

    region: Expr
    model: str


@dataclass(frozen=True)
class Reduce(Expr):
    """One value per row over the positions of `region`: `any`, `count`, `all` (of `value`), `sum mean max min` (of
    `value`). Over an empty region: any False, all True, count and sum 0, mean 0, max -3e38, min 3e38 (float)."""

    kind: OneOf["any", "all", "count", "sum", "mean", "max", "min"]
    region: Expr
    value: Expr | None = None


@dataclass(frozen=True)
class Score(Expr):
    """A number per readable position of the distribution that call `dist` (its `Call.name`) returned.

    `max` probability of the most likely token, `top` that token, `token` (argmax at temperature 0, otherwise a draw),
    `sample` (the same token), `entropy` (nats), `margin` (top-1 minus top-2 probability), `gap` (top-1 minus top-2
    logit), `prob` (probability of token `of`). Computed in float32. `warped`: from the distribution after penalties,
    temperature, top-k, top-p and min-p, instead of the clean one. `without`: token ids whose logits are taken out first
    (clean, renormalised); does not change which token is proposed. `dist`: the distribution itself, each
    probability at least 1e-38; `none` at positions that cannot be read.
    """

    dist: str
    kind: OneOf["max", "top", "token", "sample", "entropy", "margin", "gap", "prob", "dist"]
    of: Expr | None = None
    warped: bool = False
    without: tuple[int, ...] = ()


@dataclass(frozen=True)
class Divergence(Expr):
    """Kullback-Leibler divergence of `left` from `right` (both DIST), in nats, per position; 3e38 where one is none."""

    left: Expr
    right: Expr


@dataclass(frozen=True)
class OneHot(Expr):
    """A table: 1 at the token `of` of each position, 0 at all others."""

    of: Expr


@dataclass(frozen=True)
class Probabilities(Expr):
    """A table: the probabilities of the distribution `of` (DIST), 0 for all tokens where it is none."""

    of: Expr


@dataclass(frozen=True)
class Learned(Expr):
    """What `module` (a `Module.name`) makes of `value` at the positions of `region`, a block: its values in the order
    of their positions, zeros behind them up to the module's size, through the network; 0 outside of the block."""

    module: str
    value: Expr
    region: Expr


@dataclass(frozen=True)
class Foreign(Expr):
    """What the extern rule `name` (an `Extern.name`) makes of `args` on the whole canvas."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True)
class Running(Expr):
    """Inside `Take.predicate` only: over the positions in order so far, this one included: `count` (from 1), the
    running `sum` or `max` of `value`."""

    kind: OneOf["count", "sum", "max"]
    value: Expr | None = None


@dataclass(frozen=True)
class Take(Expr):
    """Sort the positions of `region` by `key` (ties: lowest position first) and keep the longest initial run in which
    `predicate` holds; the first `atleast` are kept in any case, never more than `atmost`.

    `per`: do so separately in each maximal run of neighbouring positions of `region` ("runs"), or in each block of
    `per_size` positions counted from the answer's start ("blocks"). A `key` of None is the position, ascending.
    """

    region: Expr
    key: Expr | None
    descending: bool
    predicate: Expr | None
    atleast: Expr | None
    atmost: Expr | None
    per: OneOf["", "runs", "blocks"] = ""
    per_size: Expr | None = None


@dataclass(frozen=True)
class Ended(Expr):
    """Whether the committed run from the answer's start holds an eos (`eos` in an expression)."""


@dataclass(frozen=True)
class Random(Expr):
    """A number in (0, 1) for each position, drawn anew; only as the whole value of an Assign. `site` numbers them
    from 0; a position's visit counts the row's earlier draws of the statement."""

    site: int


@dataclass(frozen=True)
class MaskToken(Expr):
    """The id of the model's mask token, for the row."""
