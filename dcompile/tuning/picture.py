"""A draft tree as a networkx graph, and drawn: a level a depth, parents above the middle of their children."""

from __future__ import annotations

import networkx as nx

from dcompile.trees import Tree
from dcompile.tuning.search import Rates

ACROSS, DOWN, RADIUS, EDGE = 36, 64, 12, 24
"""In pixels: between leaves, between levels, of a node, and around the picture."""


def graph(tree: Tree, rates: Rates = ()) -> nx.DiGraph:
    """Nodes by number with their `depth`, `rank`, and `chance` of being reached; an edge from each parent."""
    out = nx.DiGraph()
    for node in range(tree.size):
        depth, rank = tree.depths[node], tree.ranks[node]
        if node == 0:
            out.add_node(0, depth=0, rank=0, chance=1.0)
            continue
        row = rates[depth - 1] if depth <= len(rates) else ()
        chance = out.nodes[tree.parents[node]]["chance"] * (row[rank] if rank < len(row) else 0.0)
        out.add_node(node, depth=depth, rank=rank, chance=chance)
        out.add_edge(tree.parents[node], node)
    return out


def places(drawn: nx.DiGraph) -> dict[int, tuple[float, float]]:
    """Where the middle of each node is: leaves side by side in the order of the tree, the root at the top."""
    out: dict[int, tuple[float, float]] = {}
    leaves = 0
    for node in nx.dfs_postorder_nodes(drawn, 0, sort_neighbors=sorted):
        kids = sorted(drawn.successors(node))
        if kids:
            x = (out[kids[0]][0] + out[kids[-1]][0]) / 2
        else:
            x, leaves = EDGE + ACROSS * leaves, leaves + 1
        out[node] = (x, EDGE + DOWN * drawn.nodes[node]["depth"])
    return out


def svg(tree: Tree, rates: Rates = (), title: str = "draft tree") -> str:
    """The picture: a node carries its rank among its siblings, and below it, where rates are given, its chance in
    percent; the stronger a line the likelier it is walked."""
    drawn = graph(tree, rates)
    at = places(drawn)
    width, height = (max(p[i] for p in at.values()) + EDGE for i in (0, 1))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height + RADIUS:g}" '
        f'font-family="sans-serif" font-size="11" text-anchor="middle" role="img">',
        f"<title>{_escaped(title)}</title>",
    ]
    for parent, node in drawn.edges:
        (x, y), (a, b) = at[parent], at[node]
        strength = 1 + 4 * drawn.nodes[node]["chance"]
        lines.append(f'<path d="M{x:g} {y:g}L{a:g} {b:g}" stroke="#7a8ca3" stroke-width="{strength:.2f}"/>')
    for node, facts in drawn.nodes(data=True):
        x, y = at[node]
        lines.append(f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="#fff" stroke="#22384f"/>')
        lines.append(f'<text x="{x:g}" y="{y + 4:g}">{"" if node == 0 else facts["rank"]}</text>')
        if rates and node > 0:
            chance = f"{100 * facts['chance']:.3g}"
            lines.append(f'<text x="{x:g}" y="{y + RADIUS + 11:g}" font-size="9" fill="#555">{chance}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
