"""Trees as graphs and as pictures: nothing is lost, nothing overlaps."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import networkx as nx
import pytest

from dcompile.trees import Tree, chain, expand, paths
from dcompile.tuning.picture import DOWN, RADIUS, graph, places, svg
from dcompile.tuning.search import tokens

RATES = [(0.6, 0.2), (0.5, 0.25), (0.4,)]
TREES = [chain(3), expand(3, 2, 1), paths([[0], [1], [0, 0], [0, 1], [1, 0], [0, 1, 0]])]
SPACE = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("tree", TREES)
def test_the_graph_is_the_tree(tree: Tree) -> None:
    drawn = graph(tree, RATES)
    assert nx.is_arborescence(drawn)
    assert [next(drawn.predecessors(n)) for n in range(1, tree.size)] == list(tree.parents[1:])
    assert [drawn.nodes[n]["depth"] for n in range(tree.size)] == list(tree.depths)
    assert sum(nx.get_node_attributes(drawn, "chance").values()) == pytest.approx(tokens(tree, RATES))


@pytest.mark.parametrize("tree", TREES)
def test_no_nodes_and_no_lines_cross(tree: Tree) -> None:
    at = places(graph(tree))
    for depth in range(tree.depth + 1):
        row = [at[n] for n in range(tree.size) if tree.depths[n] == depth]
        assert all(b[0] - a[0] > 2 * RADIUS and a[1] == b[1] for a, b in itertools.pairwise(row))
    assert at[tree.size - 1][1] - at[0][1] == tree.depth * DOWN


@pytest.mark.parametrize("tree", TREES)
def test_the_picture_has_it_all(tree: Tree) -> None:
    root = ET.fromstring(svg(tree, RATES, "a < b & c"))
    assert root.findtext(f"{SPACE}title") == "a < b & c"
    assert len(root.findall(f"{SPACE}circle")) == tree.size
    assert len(root.findall(f"{SPACE}path")) == tree.size - 1
    words = [t.text or "" for t in root.findall(f"{SPACE}text")]
    assert words[0] == "" and len(words) == 2 * tree.size - 1
    assert "60" in words
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for circle in root.findall(f"{SPACE}circle"):
        assert 0 < float(circle.get("cx", "-1")) < width and 0 < float(circle.get("cy", "-1")) < height


def test_without_rates_there_are_no_chances() -> None:
    assert re.findall(r">(\d+)</text>", svg(chain(2))) == ["0", "0"]
