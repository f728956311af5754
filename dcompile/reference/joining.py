"""The union of drafts: the texts of all of them, each once."""

from __future__ import annotations

from dcompile.reference.row import Drafted, Row
from dcompile.strategy import Draft
from dcompile.trees import Tree


def joined(row: Row, stmt: Draft, root: int) -> Drafted:
    """The nodes of the drafts one behind the other. One whose text is there already is dead, and what stands below it
    stands below the one that is there."""
    tokens, live, parents, ranks = [row.tokens[root]], [True], [0], [0]
    known: dict[tuple[int, ...], int] = {(): 0}
    for name in stmt.of:
        drafted = row.drafts[name]
        number = {0: 0}
        for node in range(1, drafted.tree.size):
            text = tuple(drafted.tokens[i] for i in drafted.tree.ancestors[node][1:])
            new = drafted.live[node] and text not in known
            parents.append(number[drafted.tree.parents[node]])
            ranks.append(drafted.tree.ranks[node])
            tokens.append(drafted.tokens[node])
            live.append(new)
            number[node] = len(tokens) - 1
            if new:
                known[text] = number[node]
            elif drafted.live[node]:
                number[node] = known[text]
    return Drafted(Tree(tuple(parents), tuple(ranks)), root, tokens, live)
