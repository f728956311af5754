"""What a strategy declares, and the whole of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as OneOf

from dcompile.source import NOWHERE, Span
from dcompile.strategy.expressions import Expr
from dcompile.strategy.statements import Stmt
from dcompile.strategy.types import Type

VOCABULARY = 0  # a table's size that the model knows


@dataclass(frozen=True)
class Param:
    """A number fixed at the build (`--set name=value`)."""

    name: str
    type: Type
    value: int | float | bool | tuple[int, ...]
    span: Span = NOWHERE


@dataclass(frozen=True)
class ModelUse:
    """What the strategy needs of a model: `causal`, `masked` (bidirectional, predicts masked positions),
    `block_causal` with its block size in positions from 0, or `canvas` with the most positions that a call predicts: it
    has two halves. A Call without a name stores what it feeds, by causal attention (the encoder); one with a name
    predicts what it feeds, all of which see each other and what is stored, and stores nothing (the decoder). Or
    `permutation`: it predicts in any order, that of its call, and stores nothing."""

    name: str
    attention: OneOf["causal", "masked", "block_causal", "canvas", "permutation"]
    block: int | None
    span: Span = NOWHERE


@dataclass(frozen=True)
class State:
    """A declared variable, reset to `init` at the start of its lifetime; one copy per row. A wide one (`Type.wide`)
    that lives for a block holds the positions of the outermost block around alone: all others have `init` always. One
    with `sizes` is a table of so many cells a side (VOCABULARY: one for each token), a cell what the type says, read by
    `Entry`, written by `Fill`."""

    name: str
    type: Type
    init: Expr
    lifetime: OneOf["step", "block", "canvas", "sequence", "session"]
    span: Span = NOWHERE
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layer:
    """A linear layer: `weight` [outputs, inputs] and `bias` [outputs], float32, little-endian, in rows."""

    outputs: int
    inputs: int
    weight: bytes = field(repr=False)
    bias: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Module:
    """A trained network from `size` numbers to as many: its layers with ReLU between; the last one's output goes
    through a sigmoid if it is a `probability`. `data` is its file; without one, both it and `layers` are empty. Of
    another `format` (an ONNX graph, a program of torch.export) `data` is the whole network, and there are no layers.

    `takes`: of a module over vectors, how many make each of its arguments; its `size` is 0, and it `gives` one
    `number`, `scores`, or so many `parts`: vectors. It has `count` networks of the same shape, whose layers stand one
    network behind the other."""

    name: str
    size: int
    probability: bool
    layers: tuple[Layer, ...]
    data: bytes = field(default=b"", repr=False)
    span: Span = NOWHERE
    format: OneOf["safetensors", "onnx", "pt2"] = "safetensors"
    takes: tuple[int, ...] = ()
    gives: OneOf["values", "number", "vectors", "scores"] = "values"
    parts: int = 1
    count: int = 1

    @property
    def networks(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers of each network."""
        each = len(self.layers) // self.count
        return tuple(self.layers[n * each : (n + 1) * each] for n in range(self.count))


@dataclass(frozen=True)
class Extern:
    """A rule in Python: `function` of the file with this `text`, found at `path`; an empty text is a file that is not
    there. It is given `live` (bool [positions]: which positions the row has), then its arguments `names` of the types
    `taken`: a value per position as a tensor [positions] ([positions, vocabulary]), 0 where the row has none, one for
    the row as a tensor []. It returns a tensor of the type `given`."""

    name: str
    names: tuple[str, ...]
    taken: tuple[Type, ...]
    given: Type
    path: str
    function: str
    text: str = field(default="", repr=False)
    span: Span = NOWHERE


@dataclass(frozen=True)
class TreeFile:
    """The text of the file that a draft tree comes from."""

    name: str
    text: str = field(repr=False)
    span: Span = NOWHERE


@dataclass(frozen=True)
class Rows:
    """Rows that a call on a draft is fed behind each of its nodes: `count` embeddings of `width` numbers in place of
    tokens (float32, little-endian, row by row). `adapters`: low-rank matrices A [r, inputs] and B [outputs, r] by the
    name of a linear layer of the model: x becomes Wx + BAx at these rows, and at no other. `data` is the file; where it
    is not there it and what it holds are empty.

    With `starts` a row begins inside the model: it goes through the layers from that one on, and enters it as what its
    own one of the `maps` makes of what its node enters it as; there are no embeddings. Of a node's rows each sees the
    earlier ones, in the layers where these are."""

    name: str
    count: int
    width: int
    embeddings: bytes = field(default=b"", repr=False)
    adapters: tuple[tuple[str, Layer, Layer], ...] = ()
    data: bytes = field(default=b"", repr=False)
    span: Span = NOWHERE
    starts: tuple[int, ...] = ()
    maps: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Canvas:
    """The answer: all `masked`, all masked but holding random tokens (`uniform`), or `empty` (it grows by `append`).
    `multiple`: the canvas is made longer so that its length, counted from position 0 ("canvas") or from the answer's
    start ("answer"), is a multiple of it."""

    init: OneOf["masked", "uniform", "empty"]
    multiple: int = 1
    multiple_from: OneOf["canvas", "answer"] = "answer"
    span: Span = NOWHERE


@dataclass(frozen=True)
class Strategy:
    """A whole program."""

    name: str
    params: tuple[Param, ...]
    models: tuple[ModelUse, ...]
    canvas: Canvas
    states: tuple[State, ...]
    body: tuple[Stmt, ...]
    lossless: bool = False
    text: str = ""
    modules: tuple[Module, ...] = ()
    externs: tuple[Extern, ...] = ()
    trees: tuple[TreeFile, ...] = ()
    rows: tuple[Rows, ...] = ()
