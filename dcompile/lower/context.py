"""What the lowering of a statement can see: the recorder, the artifact's inputs, the variables as they now stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dcompile.lower.appended import Appended
from dcompile.lower.fork import Fork
from dcompile.lower.networks import Network
from dcompile.models import Model
from dcompile.record import Recorder, constant
from dcompile.strategy import Expr, ModelUse, Strategy, reads_back
from dcompile.trees import Tree, chain

ROOT = chain(0)


@dataclass(frozen=True)
class Frame:
    """`width` neighbouring slots from slot `start` [B] on; `start` None is the whole canvas. Values of a frame are
    [B, width]; where it sticks out of the canvas it is moved inside (`slots`), regions say which slots they mean.
    `sorted_by` [B, width]: the frame's places in another order."""

    start: Tensor | None
    width: int
    sorted_by: Tensor | None = None

    @property
    def key(self) -> tuple[int, int]:
        return id(self.start), self.width

    @property
    def unsorted(self) -> Frame:
        return Frame(self.start, self.width)


@dataclass(frozen=True, eq=False)
class Grown:
    """Where the nodes of a tree stand that was shaped at the run: parents, ranks and depths [B, W] of a frame's nodes
    (depths may be [1, W]), and which of all nodes stand above each one or are it: bool [B, W, n]."""

    parents: Tensor
    ranks: Tensor
    depths: Tensor
    above: Tensor


@dataclass(frozen=True, eq=False)
class Nodes(Frame):
    """The nodes of a draft tree in place of slots: `start` [B] is the root's slot. `tokens` [B, n] and which nodes are
    `live` [B, n]; `q` [B, n, V]: what a model drew their children from. `fresh`: behind the target's call, the nodes'
    keys and values by layer, and the words that its nodes carry;
    `kept` [B, n]: behind accept, which nodes were, and `last` [B]: the last of them, or the root. `rows`: the frame is
    of these nodes alone. `behind`: the rows that are appended. `grown`: of a tree that was shaped at the run. `own`:
    further values [B, n] or [B, n, E] of the nodes (in the draft: of those found so far), and `given`: what they are
    found by."""

    tree: Tree = ROOT
    tokens: Tensor = field(default_factory=lambda: torch.zeros(0))
    live: Tensor = field(default_factory=lambda: torch.zeros(0))
    q: Tensor | None = None
    fresh: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    kept: Tensor | None = None
    behind: str | None = None
    grown: Grown | None = None
    last: Tensor | None = None
    own: dict[str, Tensor] = field(default_factory=dict)
    given: tuple[tuple[str, Expr], ...] = ()

    @property
    def nodes(self) -> tuple[int, ...]:
        return self.rows or tuple(range(self.tree.size))

    @property
    def depths(self) -> Tensor:
        """How far each node is from the root: int [1 or B, W]."""
        if self.grown is not None:
            return self.grown.depths
        return constant([[self.tree.depths[i] for i in self.nodes]])

    @property
    def unsorted(self) -> Frame:
        return self


@dataclass(frozen=True)
class Block:
    """A block variable: slots [start, end), at most `width` of them."""

    start: Tensor
    end: Tensor
    width: int


@dataclass(frozen=True, eq=False)
class Adjusted:
    """A table that is added to logits, and what its names meant when it was."""

    plus: Expr
    values: dict[str, Tensor]
    dists: dict[str, Dist]


@dataclass(frozen=True)
class Dist:
    """What a call returned: logits [B, W, V] for the rows of `frame`; `shift`: row i predicts position i + 1.
    `visits` [B, C]: how often this statement drew at each position before, None without a generator. `canvas`:
    the variables as they stood at the call; penalties look at its tokens. `fed` [B, W]: the rows that mean something.
    `adjusted`: what was added to the logits since. `hidden` [B, W, E]: of a draft, or of the last
    position alone, what the logits were made of."""

    site: int
    logits: Tensor
    frame: Frame
    shift: bool
    predicts_next: bool
    temperature: Tensor | None
    visits: Tensor | None
    canvas: dict[str, Tensor]
    fed: Tensor
    adjusted: tuple[Adjusted, ...] = ()
    hidden: Tensor | None = None


@dataclass(frozen=True)
class Used:
    """A model of the strategy: what it is used as, the number of its first layer's cache among those of all models, the
    variable that says what it has stored, and whether row i predicts position i + 1."""

    model: Model
    use: ModelUse
    first: int
    stored: str
    shift: bool

    @property
    def layers(self) -> range:
        return range(self.first, self.first + self.model.facts.layers)

    @property
    def caches(self) -> list[str]:
        """The variables that hold its keys and values, [B, G, C, D] each."""
        return [f"{kind}{layer}" for layer in self.layers for kind in "kv"]


CHUNK = 32  # slots: fewer are sooner full, but each turn copies the caches


@dataclass
class Context:
    """Mutable on purpose: lowering walks the program in order, and `values` are the variables at this point.

    `active`: the rows [B] that run here, None for all; `depth`: how many loops stand around. `sorted`: inside a take's
    predicate, which sorted places hold a position of its region, and where each one's segment starts. `fork`: inside
    branches, how their rows belong to the rows of the batch. `modules`: the
    network of each module. `drafts`: the trees proposed. `appended`: what declared rows hold. `chunk`: slots that a
    prompt is stored in at a time. `overhang`: how many slots only drafts come to.
    """

    strategy: Strategy
    model: Model
    recorder: Recorder
    batch: int
    capacity: int
    rng: bool
    evaluate: Callable[[Context, Expr, Frame | None], Tensor]
    inputs: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    blocks: dict[str, Block] = field(default_factory=dict)
    dists: dict[str, Dist] = field(default_factory=dict)
    memo: dict[tuple[object, ...], Tensor] = field(default_factory=dict)
    modules: Mapping[str, Network] = field(default_factory=dict)
    models: Mapping[str, Used] = field(default_factory=dict)
    sorted: tuple[Tensor, Tensor | None] | None = None
    active: Tensor | None = None
    depth: int = 0
    fork: Fork | None = None
    drafts: dict[str, Nodes] = field(default_factory=dict)
    appended: Mapping[str, Appended] = field(default_factory=dict)
    chunk: int = CHUNK
    overhang: int = 0

    @property
    def first(self) -> Used:
        """The model that the strategy names first: the canvas and its tokens are in its terms."""
        return self.models[self.strategy.models[0].name]

    def value(self, expr: Expr, frame: Frame | None) -> Tensor:
        """An expression on a frame's slots [B, W], or, one for a row, [B]."""
        return self.evaluate(self, expr, frame)

    def put(self, name: str, value: Tensor) -> None:
        """Set a variable for the rows that are running; the others keep theirs."""
        if self.active is not None and name in self.values:
            value = torch.where(spread(self.active, value), value, self.values[name])
        self.values[name] = value

    @contextmanager
    def only(self, rows: Tensor) -> Iterator[None]:
        """Inside, only these rows (of those running) run."""
        before = self.active
        self.active = rows if before is None else before & rows
        try:
            yield
        finally:
            self.active = before

    def zeros(self, dtype: torch.dtype = torch.int64) -> Tensor:
        """A row value [B] of zeros."""
        return torch.zeros(self.batch, dtype=dtype)


def used(strategy: Strategy, models: Mapping[str, Model]) -> dict[str, Used]:
    """The models of a strategy by name."""
    out: dict[str, Used] = {}
    first = 0
    for n, use in enumerate(strategy.models):
        model = models[use.name]
        shift = model.facts.shift or reads_back(strategy, use)
        out[use.name] = Used(model, use, first, f"stored{n}" if n else "stored", shift)
        first += model.facts.layers
    return out


def spread(rows: Tensor, like: Tensor) -> Tensor:
    """A row value [B] shaped to meet a tensor [B, ...]; shared values ([1] counters) meet any row."""
    if like.dim() == 1:
        return rows
    return rows.reshape(-1, *[1] * (like.dim() - 1))


def either(rows: Tensor) -> Tensor:
    """Whether any row: bool [B] -> bool [1]."""
    if rows.shape[0] == 1:
        return rows
    return rows.to(torch.int64).sum(0, keepdim=True) > 0
