"""A draft is fed and accepted once, before anything else moves the end of the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dcompile.diagnostic import Diagnostic, Label
from dcompile.dsl.progress import head
from dcompile.source import Span
from dcompile.strategy import Accept, Call, Draft, For, ForBlocks, If, Nodes, Repeat, Stmt, While, Write


@dataclass(frozen=True)
class Open:
    """A draft at a point of the text. `calls`: those that were certainly fed its nodes; `ended`: what may have moved
    the end of the text since; `accepted`: it certainly was."""

    draft: Draft
    calls: frozenset[str] = frozenset()
    ended: Span | None = None
    accepted: bool = False


Known = dict[str, Open]
ONCE = "in each turn: draft, call, accept, and between them nothing that writes"


def unfit(body: tuple[Stmt, ...]) -> list[Diagnostic]:
    """An error for each draft that is not accepted, accepted twice, or accepted behind what made it stale."""
    known: Known = {}
    out = [*_body(body, known), *_left(known, {})]
    return list({(d.primary.span.start if d.primary else 0, d.title): d for d in out}.values())


def _body(body: tuple[Stmt, ...], known: Known) -> Iterator[Diagnostic]:
    """Goes through a body; `known` is changed on the way."""
    for node in body:
        match node:
            case Draft(name=name, of=parts):
                yield from _again(node, known)
                for part in parts:
                    if (ended := known[part].ended) is not None:
                        yield _stale("is joined", node.span, ended)
                    known[part] = replace(known[part], accepted=True)  # with the whole
                known[name] = Open(node)
            case Call(feed=Nodes(draft=name), name=str(call)):
                if (ended := known[name].ended) is not None:
                    yield _stale("is fed", node.span, ended)
                known[name] = replace(known[name], calls=known[name].calls | {call})
            case Accept():
                yield from _accept(node, known[node.draft])
                _end(known, node.span)
                known[node.draft] = replace(known[node.draft], accepted=True)
            case Write():
                _end(known, node.span)
            case If():
                yes, no = dict(known), dict(known)
                for side, inner in ((node.then, yes), (node.orelse, no)):
                    yield from _body(side, inner)
                    yield from _left(inner, known)
                known.update({name: _either(yes[name], no[name]) for name in known})
            case ForBlocks() | For() | While() | Repeat():
                for _ in range(2):  # the second turn comes behind the first
                    inner = dict(known)
                    yield from _body(node.body, inner)
                    yield from _left(inner, known)
                    known.update({name: inner[name] for name in known})


def _again(node: Draft, known: Known) -> Iterator[Diagnostic]:
    """A model has one draft of a text: it was fed the text's end for that one."""
    for other in known.values():
        if node.model is not None and (other.draft.model, other.ended) == (node.model, None) and other.draft != node:
            also = (Label(head(other.draft.span), "first here"),)
            title, help = f"`{node.model}` drafts twice behind one text", "one larger tree, or a third model"
            yield Diagnostic("draft-union", title, Label(head(node.span)), also, help)


def _end(known: Known, span: Span) -> None:
    """The end of the text moves."""
    known.update({n: replace(d, ended=span) for n, d in known.items() if d.ended is None})


def _either(a: Open, b: Open) -> Open:
    return Open(a.draft, a.calls & b.calls, a.ended or b.ended, a.accepted and b.accepted)


def _accept(node: Accept, draft: Open) -> Iterator[Diagnostic]:
    if draft.ended is not None:
        yield _stale("is accepted", node.span, draft.ended)
    elif node.dist not in draft.calls:
        also = (Label(head(draft.draft.span), "drafted here"),)
        title = "the call that decides may not have been made"
        yield Diagnostic("unfed-draft", title, Label(node.span), also, "call the model on the draft outside of `if`")


def _stale(what: str, span: Span, ended: Span) -> Diagnostic:
    also = (Label(head(ended), "here the text moves on"),) if ended is not span else ()
    return Diagnostic("stale-draft", f"a draft {what} behind the end of its turn", Label(span), also, ONCE)


def _left(inner: Known, outer: Known) -> Iterator[Diagnostic]:
    """Drafts of a block that it leaves without accepting them."""
    for name, draft in inner.items():
        if name not in outer and not draft.accepted:
            yield Diagnostic(
                "unaccepted-draft", "this draft may not be accepted", Label(head(draft.draft.span)), help=ONCE
            )
