"""The Strategy: what the user asked, with names resolved and defaults filled in. No tensors, no torch.

A position is an index into the canvas: prompt first, then the answer. A value is either one per row, or one per
position of a row (`Type.each`); a *region* is a truth value per position. Every loop, branch and action is per row.
Meanings are fixed in docs/language.md; `reference.py` is their plainest statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Literal as OneOf

from dcompile.source import NOWHERE, Span

Base = OneOf["int", "float", "bool", "token", "dist"]


@dataclass(frozen=True)
class Type:
    """What an expression is: `base`, whether there is one value for each position, and whether for each token of the
    vocabulary too. A `dist` is a distribution per position: float32 log-probabilities, NONE everywhere for `none`."""

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
DIST, TABLE = Type("dist", True, True), Type("float", True, True)
NONE = 1.0  # no logarithm of a probability


# ---------------------------------------------------------------- expressions


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


# ---------------------------------------------------------------- statements


@dataclass(frozen=True)
class Stmt:
    """A step of the program."""

    span: Span


@dataclass(frozen=True)
class Shadow:
    """Positions that a call feeds once more, as masks: at each of `region` a second row that only the other shadows
    attend to, and that attends to them and to all that its position attends to but the token there. `name` is the
    distribution of these rows: what the model would predict if it did not know the token."""

    name: str
    region: Expr


@dataclass(frozen=True)
class Call(Stmt):
    """`name = model(feed)`: run the model on exactly the positions of `feed` (a call on an empty region is no call).

    `keep`: the positions whose new keys and values are stored (None: all that are fed; a Literal False: none).
    `guidance`: classifier-free guidance scale g: logits = u + (g + 1) * (c - u), u from the same canvas with the prompt
    masked; needs `feed` everything; counts as one call. `temperature`: replaces the run's temperature for this call.
    `name` is None for `refresh`. `site` numbers the calls of the text from 0: it is the random stream.
    `condition`: a distribution (DIST) that a canvas model is fed beside the tokens (self-conditioning); where it is
    none, and without it, the model is told that there is none yet.
    `embeds`: a table (TABLE) of weights: a position is fed the sum of all tokens' embeddings, each times its weight, in
    place of its own token's. `rescale`: that sum is made as long as the weighted sum of the embeddings' lengths.
    `share`: in each layer only this share (rounded up) of the positions of `feed` is computed, those whose values'
    direction differs most from the stored one, in steps of 1/1024 of a cosine, of equal ones the lowest. They see each
    other and what is stored. All others keep what attention and feed-forward last added to them in such a call (0 at
    first). What is computed is stored, and a position counts as stored from a call with a share of 1 on.
    `tokens` (TOKENS): what is fed in place of the canvas' own. `shadow`: what is fed beside.
    """

    name: str | None
    model: str
    feed: Expr
    keep: Expr | None
    guidance: Expr | None
    temperature: Expr | None
    site: int
    condition: Expr | None = None
    embeds: Expr | None = None
    rescale: bool = False
    shadow: Shadow | None = None
    share: float | None = None
    tokens: Expr | None = None


@dataclass(frozen=True)
class Adjust(Stmt):
    """`name = dist plus x`: what call `dist` returned, the table `plus` added to its logits. It can be read where
    `dist` can, and draws with the same numbers."""

    name: str
    dist: str
    plus: Expr


@dataclass(frozen=True)
class Assign(Stmt):
    """Set a variable (row value, or one value per position of the whole canvas)."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Write(Stmt):
    """Change the canvas at `region`: `commit` (masked answer positions only: set `tokens`, no longer masked),
    `overwrite` (any live position, also of the prompt: set `tokens`, masked or not stays as it was), `mask` (answer
    positions become masked), `truncate` (the canvas ends before the first position of the region, though not before
    the answer: what was behind is no position any more; an empty region changes nothing), `noise` (answer positions
    take random tokens, masked or not stays as it was; `site` numbers the `noise`s of the text from 0). `append`: the
    position behind `last` takes `tokens` read at `last` (region is None); when the canvas is full the row ends."""

    action: OneOf["commit", "overwrite", "mask", "noise", "truncate", "append"]
    region: Expr | None
    tokens: Expr | None
    site: int = 0


@dataclass(frozen=True)
class ForBlocks(Stmt):
    """For each block of `size` positions of `over`, left to right; `var` names the block's region.

    `over` "answer" counts from the answer's start, "canvas" from position 0, another name is an enclosing block
    (sub-blocks). `short`: what happens when the length is no multiple: `short` (a shorter last block) or `error`;
    `round_up` is resolved into `Canvas.multiple`. Blocks that lie wholly in the prompt are visited too unless
    `skip_prompt` (the default for "canvas": a block with no answer position is not visited).
    """

    var: str
    over: str
    size: int
    short: OneOf["short", "error"]
    body: tuple[Stmt, ...]
    skip_prompt: bool = True


@dataclass(frozen=True)
class For(Stmt):
    """`var` runs from `start` to `stop` inclusive, by `step` (1 or -1); both ends are evaluated once, before."""

    var: str
    start: Expr
    stop: Expr
    step: int
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class While(Stmt):
    """As long as `condition` holds for the row."""

    condition: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Repeat(Stmt):
    """At least once; ends when `until` holds behind the body. The Literal False never holds."""

    body: tuple[Stmt, ...]
    until: Expr


@dataclass(frozen=True)
class If(Stmt):
    """Two branches, chosen per row."""

    condition: Expr
    then: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...]


@dataclass(frozen=True)
class Break(Stmt):
    """Leave the innermost loop if `condition` holds for the row."""

    condition: Expr


@dataclass(frozen=True)
class Stop(Stmt):
    """End the row if `condition` holds; a condition of None is `stop on eos`: the committed run from the answer's
    start holds an eos."""

    condition: Expr | None


@dataclass(frozen=True)
class Branches(Stmt):
    """Drafts that are verified together (FreeDave). For each number from `start` (a Literal) to `stop`, at most `width`
    of them, a branch runs `body` with `var` as its number, on a canvas and variables of its own that
    begin as the row's are; the one Call of all branches is one forward and counts once. Each branch's target is its
    canvas after `commit tokens at region`. The first branch is accepted; from an accepted one the chain goes to the
    last later branch whose canvas is the target (`within`: whose committed positions the target has with the same
    tokens), and so on. The row goes on with canvas, variables, keys and values of the last accepted branch.

    Draws: a branch draws as if the branches before it had run before it; the row goes on from the accepted one.
    """

    var: str
    start: Expr
    stop: Expr
    width: int
    body: tuple[Stmt, ...]
    tokens: Expr
    region: Expr
    within: bool = False


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


# ---------------------------------------------------------------- the whole


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
    predicts what it feeds, all of which see each other and what is stored, and stores nothing (the decoder)."""

    name: str
    attention: OneOf["causal", "masked", "block_causal", "canvas"]
    block: int | None
    span: Span = NOWHERE


@dataclass(frozen=True)
class State:
    """A declared variable, reset to `init` at the start of its lifetime; one copy per row. A wide one (`Type.wide`)
    that lives for a block holds the positions of the outermost block around alone: all others have `init` always."""

    name: str
    type: Type
    init: Expr
    lifetime: OneOf["step", "block", "canvas", "sequence", "session"]
    span: Span = NOWHERE


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
    another `format` (an ONNX graph, a program of torch.export) `data` is the whole network, and there are no layers."""

    name: str
    size: int
    probability: bool
    layers: tuple[Layer, ...]
    data: bytes = field(default=b"", repr=False)
    span: Span = NOWHERE
    format: OneOf["safetensors", "onnx", "pt2"] = "safetensors"


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


RESERVED = re.compile(
    r"tokens|masked|order|stored\d*|calls|batch_calls|fed|filled|canvas_end|done|ended|go|chunk|count|fresh|turn|tail_row|next"
    r"|pad|start|end|length|temperature|top_k|top_p|min_p|penalty|banned|min_length|eos|seed"
    r"|(k|v|visits|broken|block|attended|forwarded)\d+|(session|rows|tail)_\w+"
)
"""Names that a Program gives variables of its own: no variable of a Strategy bears one (`order` becomes `order_2`,
`session_n` becomes `own_session_n`)."""


NOISE = 1 << 20
"""Random streams: a call's is its `site`, the first canvas has NOISE, and the `noise` of a `site` NOISE + 1 + site. Any
token of the vocabulary is as likely as another: `word * vocab // 2^32` of the 32-bit word."""
RANDOM = 1 << 21
"""The stream of `random()` of a `site` is RANDOM + site."""


def is_noisy(strategy: Strategy) -> bool:
    """Whether something is drawn at random even at temperature 0."""
    noises = (isinstance(n, Random) or (isinstance(n, Write) and n.action == "noise") for n in walk(strategy.body))
    return strategy.canvas.init == "uniform" or any(noises)


def session_states(strategy: Strategy) -> tuple[State, ...]:
    """The states that go from one run to the next."""
    return tuple(s for s in strategy.states if s.lifetime == "session")


def outer_blocks(body: tuple[Stmt, ...]) -> Iterator[ForBlocks]:
    """The loops over blocks that stand in no other one."""
    for node in body:
        if isinstance(node, ForBlocks):
            yield node
        elif isinstance(node, If):
            yield from outer_blocks(node.then + node.orelse)
        elif isinstance(node, (For, While, Repeat)):
            yield from outer_blocks(node.body)


def held(state: State, strategy: Strategy) -> int | None:
    """How many positions a state holds, None for those of the whole canvas, 0 for one value a row."""
    if not state.type.each:
        return 0
    if not state.type.wide or state.lifetime != "block":
        return None
    return max((loop.size for loop in outer_blocks(strategy.body)), default=1)


def reads_back(strategy: Strategy, use: ModelUse) -> bool:
    """Whether a causal model is read as a shifted one, each position from the one before: on any canvas but an empty
    one, whose `append` reads what follows `last`."""
    return use.attention == "causal" and strategy.canvas.init != "empty"


def stops_on_eos(strategy: Strategy) -> bool:
    """Whether an eos ends a row: `stop on eos`, or `eos` in a condition."""
    return any(isinstance(n, Ended) or (isinstance(n, Stop) and n.condition is None) for n in walk(strategy.body))


def walk(node: object) -> Iterator[object]:
    """Every dataclass node below `node`, itself first, in written order; spans excluded."""
    if isinstance(node, tuple):
        for item in node:
            yield from walk(item)
    elif is_dataclass(node) and not isinstance(node, (Span, Type)):
        yield node
        for f in fields(node):
            yield from walk(getattr(node, f.name))
