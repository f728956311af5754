"""The state of the row: canvas, memory, variables, counters; and the distributions that calls return."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dcompile.controls import Controls
from dcompile.models import Model
from dcompile.reference import sampling
from dcompile.reference.eviction import Keys
from dcompile.reference.forward import Memory
from dcompile.reference.result import Difference, Forced, Judged
from dcompile.reference.threefry import uniform
from dcompile.strategy import Expr, ModelUse, Strategy
from dcompile.trees import Tree

Draws = Mapping[tuple[int, int, int], int]  # the token for a stream, position and visit
Sorted = Mapping[int, Tensor]  # the value of each Running node (by id) while a predicate is evaluated


@dataclass
class Drafted:
    """A draft tree with a `token` for each node and whether it is alive; `root` is the position of node 0. `q` [n, V]:
    of each node whose children a model drew, the distribution that they were drawn from. `kept`: the nodes below the
    root that were accepted. `own`: further values [n] or [n, E] of the nodes by name; `last`: the last node that was
    accepted, or the root."""

    tree: Tree
    root: int
    tokens: list[int]
    live: list[bool]
    q: Tensor | None = None
    kept: frozenset[int] = frozenset()
    own: dict[str, Tensor] = field(default_factory=dict)
    last: int = 0


@dataclass
class Row:
    """All that changes while a strategy runs. Positions are indices into `tokens`; the prompt is [0, start), the answer
    [start, end). A canvas that begins empty holds `filled` answer positions, a masked one all of them. `fixed`: those
    of a template. `blocks`: the variables of the loops over blocks around, outermost first.
    `models` and `memories`: by the names of the strategy's models; `model` is the first one.
    `branch`: this is one of several branches, whose call is counted already. `nodes`: the draft whose nodes expressions
    range over, in place of positions. `accepted`: how many nodes of each draft were accepted last; `judged`: what each
    accept was told and said, in order. `deepest`: how many layers the last call ran that could leave some out.
    `keys`: what was attended, and what is forgotten of it."""

    strategy: Strategy
    model: Model
    controls: Controls
    tokens: list[int]
    masked: list[bool]
    start: int
    length: int
    memories: dict[str, Memory]
    filled: int
    models: Mapping[str, Model]
    forced: Forced | None = None
    order: list[int] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    variables: dict[str, Tensor] = field(default_factory=dict)
    blocks: list[str] = field(default_factory=list)
    dists: dict[str, Dist] = field(default_factory=dict)
    visits: dict[tuple[int, int], int] = field(default_factory=dict)
    calls: int = 0
    fed: int = 0
    gaps: list[float] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    branch: bool = False
    draws: Draws = field(default_factory=dict)
    drafts: dict[str, Drafted] = field(default_factory=dict)
    nodes: Drafted | None = None
    accepted: dict[str, int] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    deepest: int | None = None
    keys: Keys | None = None

    def use(self, name: str) -> ModelUse:
        """How the strategy uses the model that it calls `name`."""
        return next(m for m in self.strategy.models if m.name == name)

    @property
    def extent(self) -> int:
        """How many values an expression has that has one each: for the nodes of a draft, or the canvas' positions."""
        return self.size if self.nodes is None else self.nodes.tree.size

    @property
    def size(self) -> int:
        """Positions of the whole canvas, those not yet appended included."""
        return len(self.tokens)

    @property
    def end(self) -> int:
        """The position behind the last live one."""
        return self.start + self.filled

    @property
    def run(self) -> int:
        """The length of the longest committed run from the row's start."""
        return next((i for i in range(self.end) if self.masked[i]), self.end)

    @property
    def answer_run(self) -> list[int]:
        """The tokens of the committed run from the answer's start."""
        return self.tokens[self.start : max(self.run, self.start)]

    @property
    def ended(self) -> bool:
        """Whether that run holds an eos."""
        return any(token in self.controls.eos_ids for token in self.answer_run)

    def note(self, gap: float) -> None:
        """Remember how narrow a decision behind the present call was."""
        if self.calls and not math.isnan(gap):
            self.gaps[self.calls - 1] = min(self.gaps[self.calls - 1], gap)


@dataclass
class Dist:
    """What a call returned: clean logits [R, V] for the `positions` that can be read (of a draft: its nodes), and which
    positions they predict (`targets`). For each row: the tokens `seen` and how many of the answer were `committed` when
    the model was called, and the earlier draws (`visits`). `hidden`: what the head made the logits of, of a
    draft [R, E], and of a call on the last position [E]."""

    logits: Tensor
    positions: list[int]
    targets: list[int]
    site: int
    temperature: float
    controls: Controls
    seen: list[frozenset[int]]
    committed: list[int]
    visits: list[int]
    draws: Draws
    hidden: Tensor | None = None

    @cached_property
    def processed(self) -> Tensor:
        """Logits after penalty, bans and minimum length [R, V]."""
        before = zip(self.logits, self.seen, self.committed, strict=True)
        rows = [sampling.processed(row, self.controls, seen, committed) for row, seen, committed in before]
        return torch.stack(rows) if rows else self.logits

    @cached_property
    def warped(self) -> Tensor:
        """Logits of the distribution that is drawn from [R, V]."""
        rows = [sampling.warped(row, self.controls, self.temperature) for row in self.processed]
        return torch.stack(rows) if rows else self.logits

    @cached_property
    def token(self) -> list[int]:
        """The proposed token of each readable position."""
        if self.temperature <= 0:
            return [int(row.argmax()) for row in self.processed]
        own = [sampling.draw(row, u) for row, u in zip(self.warped, self._uniforms(), strict=True)]
        keys = [(self.site, target, v) for target, v in zip(self.targets, self.visits, strict=True)]
        return [self.draws.get(key, token) for key, token in zip(keys, own, strict=True)]

    def top_gap(self, position: int) -> float:
        """How narrowly the likeliest token of a position is that."""
        return sampling.top_gap(torch.softmax(self.logits[self.positions.index(position)], -1))

    def token_gap(self, position: int) -> float:
        """How narrowly the token of a position was chosen."""
        at = self.positions.index(position)
        if self.temperature <= 0:
            return sampling.top_gap(torch.softmax(self.processed[at], -1))
        return sampling.draw_gap(self.warped[at], self._uniforms()[at])

    def _uniforms(self) -> list[float]:
        seed, places = self.controls.seed, zip(self.targets, self.visits, strict=True)
        return [uniform(seed, self.site, target, visit) for target, visit in places]


class Value(Protocol):
    """The value of an expression as the row now stands: how one kind of expression asks for those of its parts."""

    def __call__(self, row: Row, expr: Expr, running: Sorted | None = None) -> Tensor: ...
