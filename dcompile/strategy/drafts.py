"""Draft trees: who proposes, in which shape, what is kept. Their expressions have one value for each *node*.

Node 0 is the root: the last committed token, which no call has been fed. A node's position is the root's plus its
depth; it attends to what is stored, to its ancestors, and to itself. `Type.each` says of a value here that there is one
for each node; `Field` is the node's own token and position, and a `Score` of a call on the tree is what the model
predicts to follow the node. A token below 0 is none: that node and all below it are dead, and so is a node whose token
an earlier child of the same parent has.

Appended rows (`Draft.rows`) are nodes too, behind all others: each node carries a chain of them, fed embeddings of
their own in place of tokens. They live as their node does, whatever is drafted for them; nothing is ever accepted
there, so their keys and values are never stored, and no node that holds a token sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf

from dcompile.strategy.expressions import Expr
from dcompile.strategy.statements import Stmt
from dcompile.trees import Tree

Drawn = OneOf["", "sample", "distinct", "top", "greedy"]
Rule = OneOf["rejection", "recursive", "recursive_distinct", "kseq", "block", "greedy", "traversal"]


@dataclass(frozen=True)
class Nodes(Expr):
    """The nodes of a draft (`Draft.name`), as what a Call feeds. Such a call stores nothing until `Accept`."""

    draft: str


@dataclass(frozen=True)
class NodeFact(Expr):
    """What the tree says of each node (int): `depth` (the root's is 0), `rank` (which child of its parent it is, from
    0), or a further one of `Tree.facts`."""

    name: str


@dataclass(frozen=True)
class Parent(Expr):
    """`value` as it is at each node's parent; the root is its own."""

    value: Expr


@dataclass(frozen=True)
class Chance(Expr):
    """The probability that call `dist` gives, at each node's parent, to the token `of` of the node itself (float; as in
    `Score` of kind `prob`)."""

    dist: str
    of: Expr
    warped: bool = False
    without: tuple[int, ...] = ()


@dataclass(frozen=True)
class Entry(Expr):
    """The cell `index` of a table (`State.sizes`); over nodes if an index is. Out of range: -1, or 0.0 of floats and
    vectors. A wide entry (`Type.wide`) has one index less: it is the last side as a whole."""

    table: str
    index: tuple[Expr, ...]


@dataclass(frozen=True)
class TextAt(Expr):
    """The token at a position of the canvas (int), -1 where there is none yet."""

    position: Expr


@dataclass(frozen=True)
class Found(Expr):
    """The position behind the first (`latest`: the last) place before the end of the canvas where its last `size`
    tokens stand already, -1 where there is none or the canvas is no longer than that."""

    size: Expr
    latest: bool = False


@dataclass(frozen=True)
class Accepted(Expr):
    """How many nodes below the root the last `Accept` of a draft took in this row, cut as it was; 0 before."""

    draft: str


@dataclass(frozen=True)
class Kept(Expr):
    """Which nodes of a draft its last `Accept` took into the text (bool over nodes); the root is none of them. Of the
    appended rows: those of the node before the last token that was appended."""

    draft: str


@dataclass(frozen=True)
class Draft(Stmt):
    """`draft name = tree from last ...`: propose a token for each node below the root.

    By an expression: `tokens` (over nodes) is evaluated depth by depth, so it may read its parent's token. `law` (a
    TABLE over the nodes of a chain): what each node's token was drawn from, zeros where it was not drawn; `drawn` is
    `sample` then.
    By a `model` of its own cache: it is fed what was committed since it last drafted, then the nodes depth by depth;
    each forward counts as a call of the row. `drawn` says how children are drawn from its law q at their parent:
    `sample` (each for itself; at temperature 0 the likeliest), `distinct` (one after the other without those before:
    q without replacement; at temperature 0 the likeliest in order), `top` (the likeliest in order at any temperature),
    `greedy` (the likeliest but for the last, which is drawn from the rest). A draw's stream is DRAFT + `site`, its
    position that of the node; nodes of one depth are draws of one position, one after the other, dead ones too.
    `rows`: what is appended behind each node (`tree` has nodes for it).
    By `scores`: where the tree grows (`Tree.growth`), of the row, or over the nodes of a chain as deep as the tree:
    those at depth d, by their softmax, say how likely each token is there, whatever stands above; `drawn` is `top`.
    Elsewhere over nodes, equal for all children of one: these are drawn as from a model's prediction at their parent.
    By other drafts of the turn (`of`): their nodes below the root one behind the other, each with the token, the depth
    and the rank that it has there. A live one whose whole text an earlier draft has too is dead, and what stands below
    it stands below that one.

    `own`: further values of each node by name, found before its token, in order; a later one and `tokens` read them
    (`Own`), and so do the nodes below. At the root they are the row's variables of these names.
    """

    name: str
    tree: Tree
    tokens: Expr | None
    model: str | None
    drawn: Drawn
    site: int
    rows: str | None = None
    law: Expr | None = None
    own: tuple[tuple[str, Expr], ...] = ()
    scores: Expr | None = None
    of: tuple[str, ...] = ()

    @property
    def draws(self) -> bool:
        """Whether its tokens are drawn in its turn, so that it takes numbers of its stream."""
        return self.model is not None or (self.scores is not None and self.tree.growth is None)


@dataclass(frozen=True)
class Accept(Stmt):
    """Keep a path of draft `draft` from its root, and one token more: append both, store the keys and values of all but
    the last token. `dist`: the call of the target on its nodes.

    `where` (over nodes): the deepest live node for which it holds, as for all between it and the root (of equal depth
    the lowest), and the proposed token of `dist` there. `rule`: by a published rule on the target's distribution and
    the drafter's (reference/accepts.py), a node's draws of stream ACCEPT + `site`. Both: a node that the rule refuses
    goes through where `where` holds. What is appended ends behind its first eos, and where the canvas is full.
    """

    draft: str
    dist: str
    where: Expr | None
    rule: Rule | None
    site: int


@dataclass(frozen=True)
class Best(Expr):
    """The `count` likeliest tokens of `dist` at each node, in order: only as what a Fill writes."""

    dist: str
    count: int


@dataclass(frozen=True)
class Fill(Stmt):
    """`table[index] = value`, of the live nodes of `draft` (those for which `where` holds), or, without one, of the
    row. A value `Best`, or a wide one, fills a whole last side. Where two nodes write one cell, the later wins; an
    index out of range writes nothing."""

    table: str
    index: tuple[Expr, ...]
    value: Expr
    draft: str | None
    where: Expr | None = None


DRAFT, ACCEPT = 3 << 20, 5 << 20
"""Random streams: that of a draft of a `site` is DRAFT + site, that of an accept ACCEPT + site."""
