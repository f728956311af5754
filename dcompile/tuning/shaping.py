"""The strategy with another tree: as a text to build, as a file to keep, and with a count of its nodes."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dcompile import compiler
from dcompile.diagnostic import error
from dcompile.source import Source
from dcompile.strategy import (
    INT,
    REGION,
    Accept,
    Draft,
    Entry,
    Fill,
    Kept,
    Literal,
    NodeFact,
    Op,
    State,
    Stmt,
    Strategy,
    Type,
    walk,
)
from dcompile.trees import Tree, written

TALLY = "tuned"


def the_draft(strategy: Strategy) -> Draft:
    """The draft whose tree is chosen; an error where there is none, or several."""
    drafts = [n for n in walk(strategy.body) if isinstance(n, Draft)]
    if len(drafts) != 1:
        many = "drafts in several places" if drafts else "drafts nothing"
        raise error("nothing-to-tune", f"`{strategy.name}` {many}", "tune a strategy with one `draft`")
    if drafts[0].tree.growth is not None:
        raise error(
            "nothing-to-tune", f"the tree of `{strategy.name}` is shaped at the run", "tune one whose tree is fixed"
        )
    if drafts[0].rows is not None:
        title = f"the nodes of `{strategy.name}` carry rows, which cost positions too"
        raise error("nothing-to-tune", title, "a tree file says how many each node carries")
    return drafts[0]


def with_tree(source: Source, tree: Tree, said: str) -> str:
    """The strategy's text with this tree for its draft: `chain(n)`, or a member `tree` that is `said`."""
    strategy = compiler.read(source)
    span = the_draft(strategy).span
    shape = re.match(r"draft\s+\w+\s*=\s*(.*?)\s+from\b", source.text[span.start : span.end], re.DOTALL)
    assert shape is not None, "a draft says its shape"
    member = re.compile(rf"^([ \t]*tree[ \t]+{re.escape(shape[1])}[ \t]*=[ \t]*)[^\n#]*", re.MULTILINE)
    if member.search(source.text):
        return member.sub(lambda m: m[1] + said, source.text, count=1)
    before, behind = source.text[: span.start + shape.start(1)], source.text[span.start + shape.end(1) :]
    if tree.straight:
        return f"{before}chain({tree.depth}){behind}"
    at = before.rindex("\n", 0, strategy.canvas.span.start) + 1
    indent = before[at : strategy.canvas.span.start]
    return f"{before[:at]}{indent}tree tuned = {said}\n{before[at:]}tuned{behind}"


def shaped(source: Source, tree: Tree) -> Source:
    """The strategy with this tree, for a build: other files that it names are found as before."""
    return replace(source, text=with_tree(source, tree, str([list(route) for route in tree.routes[1:]])))


def write(source: Source, tree: Tree, path: Path, head: str) -> None:
    """A strategy file with this tree, and beside it the tree's own where there is one."""
    beside = path.with_suffix(".tree")
    text = with_tree(source, tree, f'"{beside.name}"')
    path.write_text(head + text, encoding="utf-8")
    if beside.name in text:
        beside.write_text(written(tree), encoding="utf-8")


def counted(strategy: Strategy) -> Strategy:
    """The strategy with a table of the session: how often each node of its draft was kept."""
    draft = the_draft(strategy)
    at, ints, size = draft.span, Type("int", True), draft.tree.size
    tree = replace(draft.tree, facts=(*draft.tree.facts, (TALLY, tuple(range(size)))))
    index = (NodeFact(ints, at, TALLY),)
    more = Op(ints, at, "add", (Entry(ints, at, TALLY, index), Literal(INT, at, 1)))
    tally = Fill(at, TALLY, index, more, draft.name, Kept(REGION, at, draft.name))
    state = State(TALLY, INT, Literal(INT, at, 0), "session", at, (size,))
    return replace(strategy, states=(*strategy.states, state), body=_counting(strategy.body, tree, tally))


def _counting(body: tuple[Stmt, ...], tree: Tree, tally: Fill) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for stmt in body:
        inner: dict[str, Any] = {
            f.name: _counting(part, tree, tally)
            for f in fields(stmt)
            if isinstance(part := getattr(stmt, f.name), tuple) and part and isinstance(part[0], Stmt)
        }
        changed = replace(stmt, **inner) if inner else stmt
        out += [replace(changed, tree=tree)] if isinstance(changed, Draft) else [changed]
        out += [tally] if isinstance(stmt, Accept) else []
    return tuple(out)
