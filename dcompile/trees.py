"""Shapes of draft trees: known at the build, or how far they may grow at the run."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from dcompile.diagnostic import CompileError, Diagnostic, Label, error
from dcompile.source import Source, Span

LIMIT = 1024
"""The most nodes that a tree may have, the root included: a call is fed all of them."""

AHEAD, CARRIES = "ahead", "carries"
"""Facts: which appended row a node is, and how many rows a node carries."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Growth:
    """How a drafter's chances shape a tree: depth by depth the `width` likeliest paths go on, each to its `width`
    likeliest tokens, down to `depth`; where the chances of the nodes that would stay sum up to at most `gain` more than
    a depth before, no further. The tree's nodes are the likeliest of all that were seen.
    A `width` of 0: nothing grows, the tree is the union of others, whose equal nodes are one."""

    depth: int
    width: int
    gain: float | None = None


@dataclass(frozen=True)
class Tree:
    """Nodes 0 (the root) to n - 1; `parents[i]` < i (the root's is 0) and `ranks[i]` says which child of its parent
    node i is, from 0. Nodes stand in order of depth, appended rows (`attach`) behind all others. `facts`: further
    numbers of the nodes by name. `growth`: only how many nodes there are at most is known, the rest at the run."""

    parents: tuple[int, ...]
    ranks: tuple[int, ...]
    facts: tuple[tuple[str, tuple[int, ...]], ...] = ()
    growth: Growth | None = None

    @property
    def size(self) -> int:
        return len(self.parents)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """How far each node is from the root."""
        assert self.growth is None, "where the nodes stand is known at the run"
        found = [0]
        for parent in self.parents[1:]:
            found.append(found[parent] + 1)
        return tuple(found)

    @property
    def depth(self) -> int:
        """How deep a token may stand."""
        if self.growth is not None:
            return self.growth.depth
        return max(self.depths[: self.proper])

    @property
    def proper(self) -> int:
        """How many nodes hold a token: all but the appended rows, which stand behind them."""
        return self.ahead.count(0)

    @cached_property
    def bare(self) -> Tree:
        """The tree without its appended rows."""
        n = self.proper
        if n == self.size:
            return self
        facts = tuple((name, numbers[:n]) for name, numbers in self.facts if name != AHEAD)
        return Tree(self.parents[:n], self.ranks[:n], facts)

    @cached_property
    def ahead(self) -> tuple[int, ...]:
        """Which of the rows appended behind a node each one is, from 1; 0 of a node that holds a token."""
        return dict(self.facts).get(AHEAD, (0,) * self.size)

    @cached_property
    def ancestors(self) -> tuple[tuple[int, ...], ...]:
        """The nodes from the root down to each one, itself included."""
        assert self.growth is None, "where the nodes stand is known at the run"
        found: list[tuple[int, ...]] = [(0,)]
        for node, parent in enumerate(self.parents[1:], 1):
            found.append((*found[parent], node))
        return tuple(found)

    @cached_property
    def routes(self) -> tuple[tuple[int, ...], ...]:
        """The ranks on the way from the root to each node, as `paths` takes them."""
        return tuple(tuple(self.ranks[n] for n in route[1:]) for route in self.ancestors)

    @cached_property
    def hosts(self) -> tuple[int, ...]:
        """The node behind which each appended row stands; a node that holds a token is its own."""
        return tuple(next(i for i in reversed(route) if self.ahead[i] == 0) for route in self.ancestors)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The children of each node, by rank."""
        assert self.growth is None, "where the nodes stand is known at the run"
        kids: list[list[int]] = [[] for _ in self.parents]
        for node, parent in enumerate(self.parents[1:], 1):
            kids[parent].append(node)
        return tuple(tuple(sorted(k, key=lambda n: self.ranks[n])) for k in kids)

    @cached_property
    def twins(self) -> tuple[tuple[int, ...], ...]:
        """The earlier children of each node's parent, which must hold other tokens for it to live."""
        looking = dict(self.facts).get("looking", (0,) * self.size)

        def earlier(node: int) -> tuple[int, ...]:
            return tuple(i for i in range(1, node) if self.parents[i] == self.parents[node] and not looking[i])

        free = [bool(look or ahead) for look, ahead in zip(looking, self.ahead, strict=True)]
        return ((), *(() if free[node] else earlier(node) for node in range(1, self.size)))

    @property
    def straight(self) -> bool:
        """Whether each node is the only child of the one before."""
        return self.growth is None and self.depth == self.size - 1

    def fact(self, name: str) -> tuple[int, ...]:
        """`depth`, `rank`, or one of `facts`, of every node."""
        return {"depth": self.depths, "rank": self.ranks, **dict(self.facts)}[name]


def chain(length: int) -> Tree:
    """`length` nodes below the root, each the only child of the one before."""
    return Tree(tuple(max(i - 1, 0) for i in range(length + 1)), (0,) * (length + 1))


def expand(*widths: int) -> Tree:
    """Every node of depth d has `widths[d]` children."""
    parents, ranks, level = [0], [0], [0]
    for width in widths:
        below: list[int] = []
        for parent in level:
            below += range(len(parents), len(parents) + width)
            parents += [parent] * width
            ranks += range(width)
            if len(parents) > LIMIT:
                raise error("bad-tree", f"{' x '.join(map(str, widths))} gives more than {LIMIT} nodes", FEWER)
        level = below
    return Tree(tuple(parents), tuple(ranks))


def beam(depth: int, width: int, nodes: int, gain: float | None = None) -> Tree:
    """At most `nodes` nodes below the root, whose places the drafting model chooses (`Growth`)."""
    seen = width + (depth - 1) * width * width
    if nodes > seen:
        raise error(
            "bad-tree", f"{depth} depths of {width} paths show {seen} nodes, fewer than {nodes}", "a wider beam"
        )
    if nodes >= LIMIT:
        raise error("bad-tree", f"a tree has at most {LIMIT} nodes, the root included")
    return Tree((0,) * (nodes + 1), (0,) * (nodes + 1), (), Growth(depth, width, gain))


def joined(parts: Sequence[Tree]) -> Tree:
    """As many nodes as the union of these trees may have."""
    size = 1 + sum(tree.size - 1 for tree in parts)
    if size > LIMIT:
        raise error("bad-tree", f"together these are {size} nodes, and {LIMIT} is the most", FEWER)
    return Tree((0,) * size, (0,) * size, (), Growth(max(tree.depth for tree in parts), 0))


def lookahead(window: int, ngram: int, guesses: int) -> Tree:
    """The tree of lookahead decoding (Fu et al. 2024): a window of `window` columns and `ngram` - 1 rows, and below the
    root `guesses` chains of `ngram` - 1 nodes.

    The root is column 0 of row 0, whose other columns stand behind it as a chain; below each column its further rows.
    Facts: `looking` (1 in the window, the root included), its `row` and `column`; of a guess its number (`guess`) and
    which of its tokens it is (`place`), from 0. A node of the window has no twin: it lives whatever its siblings hold.
    """
    named: dict[tuple[int, ...], dict[str, int]] = {}
    for guess in range(guesses):
        for place in range(ngram - 1):
            named[(guess, *[0] * place)] = {"guess": guess, "place": place}
    for column in range(window):
        top = (guesses + 1, *[1] * (column - 1)) if column else ()
        for row in range(ngram - 1):
            below = (guesses if column == 0 else 0, *[0] * (row - 1)) if row else ()
            named[(*top, *below)] = {"looking": 1, "row": row, "column": column}
    tree = paths([path for path in named if path])
    names = ("looking", "row", "column", "guess", "place")
    facts = tuple((name, tuple(named[path].get(name, 0) for path in tree.routes)) for name in names)
    return Tree(tree.parents, tree.ranks, facts)


def attach(tree: Tree, count: int) -> Tree:
    """The tree with `count` rows appended behind each node, one below the other, or as many as it `carries`. They stand
    behind all nodes, those of one node together; their fact `ahead` is 1, 2, ... and that of the nodes 0."""
    carries = dict(tree.facts).get(CARRIES, (count,) * tree.size)
    parents, ranks, ahead = list(tree.parents), list(tree.ranks), [0] * tree.size
    for node in range(tree.size):
        for row in range(min(carries[node], count)):
            ranks.append(len(tree.children[node]) if row == 0 else 0)
            parents.append(node if row == 0 else len(parents) - 1)
            ahead.append(row + 1)
    if len(parents) > LIMIT:
        raise error(
            "bad-tree", f"with the appended rows these are {len(parents)} nodes, and {LIMIT} is the most", FEWER
        )
    rows = (0,) * (len(parents) - tree.size)
    facts = tuple((name, (*numbers, *rows)) for name, numbers in tree.facts if name != CARRIES)
    return Tree(tuple(parents), tuple(ranks), (*facts, (AHEAD, tuple(ahead))))


def paths(shape: Sequence[Sequence[int]]) -> Tree:
    """The tree with a node at each of these paths of ranks: `[0]` is the root's first child, `[0, 1]` its second.

    Raises CompileError `bad-tree` where a path lacks its beginning or a sibling of lower rank, or stands twice.
    """
    nodes: dict[tuple[int, ...], tuple[tuple[int, ...], int]] = {}
    for path in map(tuple, shape):
        if not path:
            raise error("bad-tree", "the root is not listed: a path has at least one rank")
        if path in nodes:
            raise error("bad-tree", f"the path {list(path)} stands twice")
        nodes[path] = (path[:-1], path[-1])
    for path, fault in _faults(nodes, ()):
        raise error("bad-tree", f"the path {list(path)}: {fault}")
    return _ordered(nodes, ())


def read(text: str, path: str) -> Tree:
    """A tree file: a line `NODE PARENT RANK` for each node but the root, which is 0; `#` starts a comment. A fourth
    number says how many of the appended rows the node carries (all: it, and always the root).

    The lines may stand in any order and the numbers be any; nodes are counted anew by depth, parent and rank.
    Raises CompileError `bad-tree` with every mistake of the first kind found, each at its line.
    """
    source = Source(path, text)
    lines: dict[int, Span] = {}
    nodes: dict[int, tuple[int, int]] = {}
    carries: dict[int, int] = {}
    found: list[Diagnostic] = []
    for span, words in _lines(source):
        numbers = [int(w) for w in words if w.isascii() and w.isdigit() and len(w) < 10]
        if len(words) not in (3, 4) or len(numbers) != len(words):
            found.append(_bad(span, "a line is `NODE PARENT RANK`: three numbers from 0", "not three numbers"))
        elif numbers[0] == 0:
            found.append(_bad(span, "node 0 is the root, which is not listed", "node 0"))
        elif numbers[0] in nodes:
            again = Label(lines[numbers[0]], "first here")
            found.append(_bad(span, f"node {numbers[0]} stands twice", "again", again))
        else:
            lines[numbers[0]], nodes[numbers[0]] = span, (numbers[1], numbers[2])
            carries.update((numbers[0], n) for n in numbers[3:])
    if not found and not nodes:
        found.append(_bad(Span(0, 1, source), "the tree has no node below its root", ""))
    if not found:
        found = [_bad(lines[node], f"node {node}: {fault}", "") for node, fault in _faults(nodes, 0)]
    if not found and len(nodes) >= LIMIT:
        span = list(lines.values())[LIMIT - 1]
        found.append(_bad(span, f"{len(nodes) + 1} nodes with the root, and {LIMIT} is the most", "", help=FEWER))
    if found:
        raise CompileError(found)
    made = _ordered(nodes, 0)
    if not carries:
        return made
    order = _reached(nodes, 0)
    return Tree(made.parents, made.ranks, ((CARRIES, tuple(carries.get(node, LIMIT) for node in order)),))


def written(tree: Tree) -> str:
    """The lines of a tree file."""
    carries = dict(tree.facts).get(CARRIES)
    rows = [""] * tree.size if carries is None else [f" {n}" for n in carries]
    return "".join(f"{i} {tree.parents[i]} {tree.ranks[i]}{rows[i]}\n" for i in range(1, tree.size))


FEWER = "fewer children at the first levels cut the most"


def _lines(source: Source) -> Iterator[tuple[Span, list[str]]]:
    """The span and the words of each line that says something."""
    start = 0
    for line in source.text.splitlines(keepends=True):
        said = line.partition("#")[0]
        if said.strip():
            first = start + len(said) - len(said.lstrip())
            yield Span(first, first + len(said.strip()), source), said.split()
        start += len(line)


def _bad(span: Span, title: str, words: str, *others: Label, help: str | None = None) -> Diagnostic:
    return Diagnostic("bad-tree", title, Label(span, words), others, help)


def _faults(nodes: Mapping[K, tuple[K, int]], root: K) -> Iterator[tuple[K, str]]:
    """The nodes (each with its parent and rank) that no tree from `root` has, and why."""
    taken: dict[tuple[K, int], K] = {}
    for node, (parent, rank) in nodes.items():
        if parent != root and parent not in nodes:
            yield node, f"its parent {_name(parent)} is not in the tree"
        if rank < 0:
            yield node, f"its rank {rank} is below 0"
        if (parent, rank) in taken:
            yield node, f"its sibling {_name(taken[parent, rank])} has the same rank {rank}"
        taken.setdefault((parent, rank), node)
    for node, (parent, rank) in nodes.items():
        if rank > 0 and (parent, rank - 1) not in taken:
            yield node, f"it has rank {rank}, and no sibling has rank {rank - 1}"
    reached = set(_reached(nodes, root))
    for node in nodes:
        if node not in reached and _comes_back(nodes, node):
            yield node, "it is its own ancestor"


def _name(node: object) -> str:
    return str(list(node)) if isinstance(node, tuple) else str(node)


def _comes_back(nodes: Mapping[K, tuple[K, int]], node: K) -> bool:
    """Whether the parents of a node lead to itself."""
    at, seen = nodes[node][0], {node}
    while at in nodes and at not in seen:
        seen.add(at)
        at = nodes[at][0]
    return at == node


def _reached(nodes: Mapping[K, tuple[K, int]], root: K) -> Iterator[K]:
    """The root and what is below it, by depth, then parent, then rank."""
    below: dict[K, list[tuple[int, K]]] = {}
    for node, (parent, rank) in nodes.items():
        below.setdefault(parent, []).append((rank, node))
    level = [root]
    while level:
        yield from level
        level = [kid for node in level for _, kid in sorted(below.get(node, []), key=lambda k: k[0])]


def _ordered(nodes: Mapping[K, tuple[K, int]], root: K) -> Tree:
    """The tree of nodes that have no faults."""
    order = list(_reached(nodes, root))
    number = {node: i for i, node in enumerate(order)}
    return Tree(
        (0, *(number[nodes[n][0]] for n in order[1:])),
        (0, *(nodes[n][1] for n in order[1:])),
    )
