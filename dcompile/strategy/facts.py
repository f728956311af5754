"""What can be read off a Strategy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from dcompile.source import Span
from dcompile.strategy.declarations import ModelUse, State, Strategy
from dcompile.strategy.drafts import Accept, Draft
from dcompile.strategy.expressions import Ended, Random
from dcompile.strategy.statements import Call, Eviction, For, ForBlocks, If, Repeat, Stmt, Stop, While, Write
from dcompile.strategy.types import Type

RESERVED = re.compile(
    r"tokens|masked|order|stored\d*|calls|batch_calls|fed|filled|canvas_end|done|ended|go|chunk|count|fresh|turn|tail_row|next"
    r"|deepest|pad|start|end|length|temperature|top_k|top_p|min_p|penalty|banned|min_length|eos|seed"
    r"|(k|v|score|gone|visits|broken|block|attended|forwarded)\d+|(session|rows|tail|accepted)_\w+"
)
"""Names that a Program gives variables of its own: no variable of a Strategy bears one (`order` becomes `order_2`,
`session_n` becomes `own_session_n`)."""


NOISE = 1 << 20
"""Random streams: a call's is its `site`, the first canvas has NOISE, and the `noise` of a `site` NOISE + 1 + site. Any
token of the vocabulary is as likely as another: `word * vocab // 2^32` of the 32-bit word."""
RANDOM = 1 << 21
"""The stream of `random()` of a `site` is RANDOM + site."""
VERIFY = 9 << 20
"""Streams by which tokens are judged and drawn anew (`Verify`)."""
KEYS = 7 << 20
"""The stream of the noise by which the call of a `site` chooses keys is KEYS + site."""


def is_noisy(strategy: Strategy) -> bool:
    """Whether something is drawn at random even at temperature 0."""
    noises = (
        isinstance(n, (Random, Eviction)) or (isinstance(n, Write) and n.action == "noise") for n in walk(strategy.body)
    )
    return strategy.canvas.init == "uniform" or any(noises)


def session_states(strategy: Strategy) -> tuple[State, ...]:
    """The states that go from one run to the next."""
    return tuple(s for s in strategy.states if s.lifetime == "session")


def lags(strategy: Strategy, model: str) -> bool:
    """Whether the text may move on without a call of this model in the same turn, so that its next call has to feed
    what it has not seen: in a canvas that grows, where calls stand in an `if`."""
    plain = all(c.keep is None and c.eviction is None and c.depth is None for c in _calls(strategy, model))
    return plain and strategy.canvas.init == "empty" and _moves_alone(strategy.body, model)


def _calls(strategy: Strategy, model: str) -> Iterator[Call]:
    return (n for n in walk(strategy.body) if isinstance(n, Call) and n.model == model)


def _moves_alone(body: tuple[Stmt, ...], model: str, called: bool = False) -> bool:
    """Whether something in a body appends with no call of the model before it; `called`: there was one."""
    for node in body:
        if isinstance(node, (Call, Draft)) and node.model == model:
            called = True
        elif isinstance(node, Accept) or (isinstance(node, Write) and node.action == "append"):
            if not called:
                return True
            called = False
        elif isinstance(node, If):
            if any(_moves_alone(side, model, called) for side in (node.then, node.orelse)):
                return True
            called = called and not any(isinstance(n, (Accept, Write)) for n in walk(node))
            called = called or all(_calls_last(side, model) for side in (node.then, node.orelse))
        elif isinstance(node, (For, ForBlocks, While, Repeat)):
            if _moves_alone(node.body, model):
                return True
            called = False
    return False


def _calls_last(body: tuple[Stmt, ...], model: str) -> bool:
    """Whether a call of the model stands in a body, and nothing behind it that moves the text."""
    at = [n for n, s in enumerate(body) if isinstance(s, (Call, Draft)) and s.model == model]
    return bool(at) and not any(isinstance(n, (Accept, Write)) for s in body[at[-1] :] for n in walk(s))


def overhang(strategy: Strategy) -> int:
    """How many slots behind the last one the longest chain of drafts stands in."""
    return max((n.tree.depth for n in walk(strategy.body) if isinstance(n, Draft) and n.tree.straight), default=0)


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
