"""Tree shapes: read from files, from lists of paths, from widths; what a bad file gets."""

from __future__ import annotations

import random

import pytest

from dcompile.diagnostic import CompileError
from dcompile.trees import Tree, attach, chain, expand, paths, read, written


def test_a_file_is_numbered_anew_by_depth_parent_and_rank() -> None:
    text = "# a tree\n7 0 1  # the second child\n\n3 9 0\n9 0 0\n\t1 7 1\n2 7 0\n"
    tree = read(text, "t.tree")
    assert tree == Tree((0, 0, 0, 1, 2, 2), (0, 0, 1, 0, 0, 1))
    assert tree.depths == (0, 1, 1, 2, 2, 2)
    assert tree.children == ((1, 2), (3,), (4, 5), (), (), ())


def test_paths_expand_and_chain_agree_with_a_file() -> None:
    assert expand(1, 1, 1) == paths([[0, 0, 0], [0], [0, 0]]) == chain(3)
    assert expand(2, 1) == paths([[1, 0], [0], [1], [0, 0]]) == read("1 0 0\n2 0 1\n3 1 0\n4 2 0\n", "t")
    assert expand(3, 2).size == 10 and expand(3, 2).children[2] == (6, 7)
    assert expand() == Tree((0,), (0,))


@pytest.mark.parametrize("seed", range(20))
def test_any_tree_comes_back_from_its_lines(seed: int) -> None:
    rng = random.Random(seed)
    parents = [0]
    for _ in range(rng.randint(1, 30)):
        parents.append(rng.randint(parents[-1], len(parents) - 1))
    ranks = [0] + [parents[1:i].count(parents[i]) for i in range(1, len(parents))]
    tree = Tree(tuple(parents), tuple(ranks))
    names = [0, *rng.sample(range(1, 1000), tree.size - 1)]
    lines = [f"{names[i]} {names[parents[i]]} {ranks[i]}" for i in range(1, tree.size)]
    rng.shuffle(lines)
    assert read("\n".join(lines), "t") == tree
    assert read(written(tree), "t") == tree
    routes = [[ranks[n] for n in chain[1:]] for chain in tree.ancestors[1:]]
    rng.shuffle(routes)
    assert paths(routes) == tree


MESSAGES = {
    "1 0 0\n2 3 0\n3 2 0\n": """
error[bad-tree]: node 2: it is its own ancestor
 --> t.tree:2:1
  |
2 | 2 3 0
  | ^^^^^
  |

error[bad-tree]: node 3: it is its own ancestor
 --> t.tree:3:1
  |
3 | 3 2 0
  | ^^^^^
  |""",
    "1 0 0\n2 5 0  # whose?\n": """
error[bad-tree]: node 2: its parent 5 is not in the tree
 --> t.tree:2:1
  |
2 | 2 5 0  # whose?
  | ^^^^^
  |""",
    "1 0 0\n  2 0 0": """
error[bad-tree]: node 2: its sibling 1 has the same rank 0
 --> t.tree:2:3
  |
2 |   2 0 0
  |   ^^^^^
  |""",
    "1 0 0\n2 0 2\n": """
error[bad-tree]: node 2: it has rank 2, and no sibling has rank 1
 --> t.tree:2:1
  |
2 | 2 0 2
  | ^^^^^
  |""",
    "1 0 x\n2 0\n3 0 -1\n": """
error[bad-tree]: a line is `NODE PARENT RANK`: three numbers from 0
 --> t.tree:1:1
  |
1 | 1 0 x
  | ^^^^^ not three numbers
  |

error[bad-tree]: a line is `NODE PARENT RANK`: three numbers from 0
 --> t.tree:2:1
  |
2 | 2 0
  | ^^^ not three numbers
  |

error[bad-tree]: a line is `NODE PARENT RANK`: three numbers from 0
 --> t.tree:3:1
  |
3 | 3 0 -1
  | ^^^^^^ not three numbers
  |""",
    "0 0 0\n1 0 0\n": """
error[bad-tree]: node 0 is the root, which is not listed
 --> t.tree:1:1
  |
1 | 0 0 0
  | ^^^^^ node 0
  |""",
    "4 0 0\n4 0 1\n": """
error[bad-tree]: node 4 stands twice
 --> t.tree:2:1
  |
1 | 4 0 0
  | ----- first here
2 | 4 0 1
  | ^^^^^ again
  |""",
    "# nothing\n": """
error[bad-tree]: the tree has no node below its root
 --> t.tree:1:1
  |
1 | # nothing
  | ^
  |""",
    "".join(f"{i} 0 {i - 1}\n" for i in range(1, 1030)): """
error[bad-tree]: 1030 nodes with the root, and 1024 is the most
    --> t.tree:1024:1
     |
1024 | 1024 0 1023
     | ^^^^^^^^^^^
     |
  = help: fewer children at the first levels cut the most""",
}


@pytest.mark.parametrize("text", MESSAGES)
def test_a_bad_file_is_told_its_line_and_node(text: str) -> None:
    with pytest.raises(CompileError) as caught:
        read(text, "t.tree")
    assert str(caught.value) == MESSAGES[text].removeprefix("\n")


def test_the_largest_tree_is_read() -> None:
    assert read("".join(f"{i} {i - 1} 0\n" for i in range(1, 1024)), "t") == chain(1023)


BAD_PATHS = [
    ([[0, 0]], "the path [0, 0]: its parent [0] is not in the tree"),
    ([[0], [2]], "the path [2]: it has rank 2, and no sibling has rank 1"),
    ([[0], [0]], "the path [0] stands twice"),
    ([[-1]], "the path [-1]: its rank -1 is below 0"),
    ([[]], "the root is not listed: a path has at least one rank"),
]


@pytest.mark.parametrize(("shape", "message"), BAD_PATHS)
def test_bad_paths(shape: list[list[int]], message: str) -> None:
    with pytest.raises(CompileError) as caught:
        paths(shape)
    assert str(caught.value) == f"error[bad-tree]: {message}"


def test_an_expansion_that_is_too_large() -> None:
    with pytest.raises(CompileError, match="4 x 20 x 20 gives more than 1024 nodes"):
        expand(4, 20, 20)


def test_appended_rows_stand_behind_all_nodes() -> None:
    tree = attach(expand(2, 1), 2)
    assert tree.proper == 5 and tree.size == 15 and tree.depth == 2
    assert tree.ahead == (0,) * 5 + (1, 2) * 5
    assert tree.parents[5:] == (0, 5, 1, 7, 2, 9, 3, 11, 4, 13)
    assert tree.depths[5:] == (1, 2, 2, 3, 2, 3, 3, 4, 3, 4)
    assert tree.twins == (*expand(2, 1).twins, *[()] * 10)


def test_a_file_says_how_many_rows_a_node_carries() -> None:
    tree = read("1 0 0 1\n2 0 1\n3 1 0 0\n", "t")
    assert attach(tree, 3).ahead == (0, 0, 0, 0, 1, 2, 3, 1, 1, 2, 3)
    assert attach(read(written(tree), "t"), 3) == attach(tree, 3)
    assert attach(tree, 3).fact("depth")[:4] == tree.depths
