"""Two verdicts: is the cache exact, and are the tokens those of plain decoding?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dcompile.dsl.origins import losses, own
from dcompile.dsl.readable import LAST
from dcompile.dsl.regions import EVERYTHING, MASKED, World, ahead, most, steady, within
from dcompile.dsl.soundness import accepts, judged
from dcompile.dsl.verified import alone, drafts
from dcompile.source import NOWHERE, Span
from dcompile.strategy import (
    INT,
    REGION,
    Adjust,
    Area,
    Assign,
    Call,
    Eviction,
    Expr,
    ForBlocks,
    If,
    Literal,
    Name,
    Nodes,
    Op,
    Score,
    Stmt,
    Strategy,
    Take,
    Unreadable,
    Whole,
    Write,
    walk,
)


@dataclass(frozen=True)
class Verdict:
    """`word`, the reason, and the line that decides it."""

    word: str
    reason: str
    span: Span | None = None


# ---------------------------------------------------------------- the cache


def cache(world: World, strategy: Strategy) -> Verdict:
    """`exact`: every key and value that a call reads is what a call on everything would compute; else `approximate`."""
    calls = [n for n in walk(strategy.body) if isinstance(n, Call)]
    if shared := [c for c in calls if c.share is not None and c.share < 1]:
        reason = "this call computes a share of its positions; the others keep what an earlier call made of them"
        return Verdict("approximate", reason, shared[0].span)
    if shallow := [c for c in calls if c.depth is not None and not _is_one(c.depth)]:
        reason = "this call may leave out layers, which then know nothing of what it was fed"
        return Verdict("approximate", reason, shallow[0].span)
    if forgetting := [c for c in calls if c.eviction is not None]:
        return Verdict("approximate", "this call forgets keys and values", forgetting[0].span)
    partial = [c for c in calls if not within(world, EVERYTHING, c.feed)]
    if not partial:
        return Verdict("exact", "every call feeds everything, so nothing is read from the cache")
    main = strategy.models[0]
    alike = strategy.canvas.init == "empty" and all(m.attention == "causal" for m in strategy.models)
    if (other := [c for c in partial if c.model != main.name]) and not alike:
        return Verdict("approximate", "nothing is proved of what a second model has stored", other[0].span)
    attention = main.attention
    if attention == "causal":
        return _causal(strategy, partial)
    if attention == "block_causal":
        return _block_causal(world, strategy)
    if attention == "canvas":
        return _canvases(world, strategy)
    first = partial[0]
    return Verdict(
        "approximate",
        "all positions attend to each other, and this call reads keys and values that were "
        "stored before the canvas changed",
        first.span,
    )


def _is_one(depth: Expr) -> bool:
    return isinstance(depth, Literal) and depth.value == 1


def _causal(strategy: Strategy, partial: list[Call]) -> Verdict:
    for write in (n for n in walk(strategy.body) if isinstance(n, Write)):
        if write.action != "append":
            return Verdict(
                "approximate", f"`{write.action}` changes positions whose keys and values may be stored", write.span
            )
    for call in partial:
        if (call.feed != LAST and not isinstance(call.feed, Nodes)) or call.keep is not None:
            return Verdict("approximate", "it is not certain that this call leaves every position stored", call.span)
    if strategy.canvas.init != "empty" and any(isinstance(n, If) for n in walk(strategy.body)):
        return Verdict("approximate", "a call stands in a branch, so a position may never be fed", partial[0].span)
    if any(isinstance(c.feed, Nodes) for c in partial):
        return Verdict("exact", "causal attention; of a draft, what is accepted is stored, and nothing else")
    return Verdict("exact", "causal attention, and each position is fed once, when its token is final")


def _calls(node: Stmt) -> bool:
    return any(isinstance(n, Call) for n in walk(node))


def _block_causal(world: World, strategy: Strategy) -> Verdict:
    """Exact if the prompt's whole blocks are stored, and each block, fed whole, is stored again when it is done."""
    size = strategy.models[0].block
    stored = False
    for node in strategy.body:
        if _is_ahead(node, _prompt_blocks(size or 0)):
            continue
        if isinstance(node, Call):
            right = node.feed == _prompt_blocks(size or 0)
            plain = node.keep is None and node.embeds is None
            stored = stored or (plain and (right or within(world, EVERYTHING, node.feed)))
        elif isinstance(node, ForBlocks):
            if not stored:
                return Verdict("approximate", "the prompt's blocks before this loop were never stored", node.span)
            if node.over != "canvas" or node.size != size:
                return Verdict(
                    "approximate", f"these blocks are not the model's blocks of {size} from position 0", node.span
                )
            wrong = _block_wrong(world, node)
            if wrong is not None:
                return wrong
        elif _calls(node) or any(isinstance(n, Write) for n in walk(node)):
            return Verdict("approximate", "calls outside of a loop over the model's blocks", node.span)
    return Verdict("exact", "block-causal attention; a block is stored again, clean, before later blocks read it")


def _canvases(world: World, strategy: Strategy) -> Verdict:
    """Exact if the prompt is stored, and each block once it is done."""
    stored = False
    for node in strategy.body:
        if isinstance(node, Call):
            stored = stored or (node.name is None and node.feed == Area(REGION, NOWHERE, "prompt"))
        elif isinstance(node, ForBlocks):
            if not stored or node.over != "answer":
                return Verdict("approximate", "what stands before these blocks was never stored", node.span)
            wrong = _block_wrong(world, node)
            if wrong is not None:
                return wrong
        elif _calls(node) or any(isinstance(n, Write) for n in walk(node)):
            return Verdict("approximate", "calls outside of a loop over blocks", node.span)
    return Verdict("exact", "each block is stored once it is done, and later blocks read it")


def _prompt_blocks(size: int) -> Expr:
    return Whole(REGION, NOWHERE, Area(REGION, NOWHERE, "prompt"), Literal(INT, NOWHERE, size))


def _is_ahead(node: object, block: Expr) -> bool:
    """Whether a statement commits what a call on `block` predicts beyond it: nothing stored has seen that position."""
    return (
        isinstance(node, Write) and node.action == "commit" and node.region is not None and ahead(node.region) == block
    )


def _block_wrong(world: World, loop: ForBlocks) -> Verdict | None:
    block = Name(EVERYTHING.type, loop.span, loop.var)
    for call in (n for n in walk(loop.body) if isinstance(n, Call)):
        if call.feed != block and not within(world, EVERYTHING, call.feed):
            return Verdict("approximate", f"this call does not feed the whole of `{loop.var}`", call.span)
    for write in (n for n in walk(loop.body) if isinstance(n, Write)):
        if not _is_ahead(write, block) and (write.region is None or not within(world, write.region, block)):
            return Verdict("approximate", f"this may change positions outside of `{loop.var}`", write.span)
    clean: Verdict | None = Verdict("approximate", f"`{loop.var}` is not stored again once it is finished", loop.span)
    for node in loop.body:
        if isinstance(node, Call) and node.keep is None and node.embeds is None:
            clean = None
        elif _is_ahead(node, block):
            continue
        elif any(isinstance(n, Write) for n in walk(node)):
            clean = Verdict("approximate", f"behind this, `{loop.var}` is not stored again", node.span)
    return clean


# ---------------------------------------------------------------- losslessness


def lossless(world: World, strategy: Strategy, exact: Verdict) -> Verdict:
    """`proved`: the tokens (or their distribution) of plain decoding, one token a call; `greedy only`: so at
    temperature 0; else `lossy`, and why. Branches whose drafts change no token are left out of the question."""
    for _, reason, span in drafts(world, strategy):
        if reason:
            return Verdict("lossy", f"drafts may change tokens: {reason}", span)
    strategy = alone(strategy)
    for why in _losses(world, strategy):
        return why
    if exact.word != "exact":
        return Verdict("lossy", "the cache is approximate: " + exact.reason, exact.span)
    accepted = [(n.span, *judged(strategy, d, n)) for n, d in accepts(strategy.body)]
    for span, word, why_ in sorted(accepted, key=lambda a: ("lossy", "greedy only", "proved").index(a[1])):
        end = ", through an exact cache" if word == "proved" else ""
        return Verdict(word, why_ + end, span if word != "proved" else None)
    return Verdict(
        "proved", "each token comes from a call of its own that sees all tokens before it, from an exact cache"
    )


def _losses(world: World, strategy: Strategy) -> Iterator[Verdict]:
    for node in walk(strategy.body):
        match node:
            case Call(embeds=Expr()):
                yield Verdict("lossy", "mixed embeddings are fed in place of tokens", node.span)
            case Call(depth=Expr() as depth) if not _is_one(depth):
                yield Verdict("lossy", "layers of the model are left out", node.span)
            case Call(order=Expr()):
                yield Verdict("lossy", "nothing is proved of a model that predicts in any order", node.span)
            case Call(eviction=Eviction()):
                yield Verdict("lossy", "keys and values are forgotten", node.span)
            case Call(guidance=Expr()):
                yield Verdict("lossy", "guidance changes the model's distribution", node.span)
            case Call(temperature=Expr()):
                yield Verdict("lossy", "the temperature of the run is replaced", node.span)
            case Adjust():
                yield Verdict("lossy", "what is added changes the model's distribution", node.span)
            case Write(action="overwrite" | "mask" | "noise"):
                yield Verdict("lossy", f"`{node.action}` revises tokens", node.span)
            case Write(action="truncate"):
                yield Verdict("lossy", "the answer ends before its end token is reached", node.span)
            case Write(tokens=tokens) if (other := _of_another(strategy, tokens)) is not None:
                yield Verdict("lossy", f"what is written is the token of `{other}`, another model", node.span)
            case Write(tokens=tokens) if not own(tokens):
                yield Verdict("lossy", "what is written is not the model's own token", node.span)
            case Write(action="commit", region=region) if region is not None and not single(world, region):
                yield Verdict(
                    "lossy",
                    "several positions are committed from one call, as if they did not depend on each other",
                    node.span,
                )
    for why, span in losses(world, strategy.body):
        yield Verdict("lossy", why, span)


def _of_another(strategy: Strategy, tokens: Expr | None) -> str | None:
    """A model other than the first whose token may be written."""
    models = {n.name: n.model for n in walk(strategy.body) if isinstance(n, Call)}
    read = (n for value in _sources(strategy, tokens) for n in walk(value) if isinstance(n, Score))
    return next((models[n.dist] for n in read if models.get(n.dist, "") not in ("", strategy.models[0].name)), None)


def _sources(strategy: Strategy, value: Expr | None) -> list[Expr | None]:
    """An expression, and all that the variables may hold from which it comes, through whatever others."""
    found, names = [value], set[str]()
    for at in found:  # which grows
        new = {n.name for n in walk(at) if isinstance(n, Name)} - names
        found += [n.value for n in walk(strategy.body) if isinstance(n, Assign) and n.name in new]
        names |= new
    return found


def single(world: World, region: Expr) -> bool:
    """Whether a region certainly has at most one position."""
    match region:
        case Take(atmost=bound, per="") if bound is not None:
            return most(world, bound) <= 1
        case Op(op="and", args=args):
            return any(single(world, a) for a in args)
        case Op(op="select", args=(_, then, other)):
            return single(world, then) and single(world, other)
        case Name(name=name) if name in world.blocks:
            return world.blocks[name].size == 1
        case Name(name=name) if name in world.values and steady(region):
            return all(single(World(), v) for v in world.values[name])
        case Unreadable(region=inner):
            return single(world, inner)
    return type(region).__name__ == "Near" and getattr(region, "kind", "") in ("first", "before", "after")


__all__ = ["MASKED", "Verdict", "cache", "lossless", "single"]
