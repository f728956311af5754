"""Statements: what a strategy does, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf

from dcompile.source import Span
from dcompile.strategy.expressions import Expr


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
class Eviction:
    """Keys and values that a causal model's call forgets (Keyformer). In each layer each head of keys adds up how much
    its keys are attended: the softmax of (score + g) / `heat` over all that a query sees, summed over the queries and
    the heads that share the keys, all calls together (the prompt's queries have a heat of 1). g is Gumbel noise, one
    number for each position (stream KEYS + site, visit 0). Behind the call the last `recent` positions stay, and of the
    others the `keys` that were attended most, of equal ones the lowest; the rest is never attended there again."""

    keys: Expr
    recent: Expr
    heat: Expr


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
    `depth`: a share of the layers (rounded up, one at least) that run: the lowest, and as many of the highest as make
    up the number; those between are left out and store nothing. A row never runs more than it last did.
    `eviction`: which keys and values are forgotten behind the call. `order`: of a model that predicts in any order, a
    number for each position: one is predicted from the tokens at those with a lower one (of equal ones, before it) that
    are committed, or, with `tokens`, at all such.
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
    depth: Expr | None = None
    eviction: Eviction | None = None
    order: Expr | None = None


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
class Verify(Write):
    """`commit tokens at region by rejection(target, draft)`: masked positions, in the order of the call `target`. Each
    token, drawn from `draft`, is kept with the probability target / draft (at most 1) that the two give it, warped; the
    first that is refused is drawn anew from what `target` has more, and those behind it stay masked. Two numbers of the
    generator for each position of the region: streams VERIFY + 2 site and the next; a visit is a run of the statement
    that finds the position masked."""

    target: str = ""
    draft: str = ""


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
