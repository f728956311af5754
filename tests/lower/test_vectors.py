"""Vectors: hidden states, heads and a node's own values mean to the program what they mean to the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dcompile import compiler
from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.dsl.checker import check_model
from dcompile.lower import lower
from dcompile.program import modules
from dcompile.source import Source
from dcompile.strategy import Strategy
from tests.lower.test_drafts import LENGTH, PROMPTS
from tests.passes.rows import Row, compiled, model, oracle
from tests.passes.rows import read as named

SIZE = model().facts.hidden
MEMBERS = """
  module head[3](float[hidden]) -> float[hidden] = "head.safetensors"
  module deep(float[hidden], float[hidden]) -> float[hidden] = "deep.safetensors"
  module pair(float[hidden]) -> float[2, hidden] = "pair.safetensors"
  module guess(float[hidden]) -> float[vocab] = "guess.safetensors"
  module judge(float[hidden]) -> prob = "judge.safetensors"
  module traced(float[hidden], float[hidden]) -> float[2, hidden] = "traced.pt2"
  tree shape = expand(3, 2, 1)
  state h: float[hidden] = 0
  state g: float[hidden] = 0.5
  state n: int = 0
  state table: token[4] = 0
  state past: float[2, 2, hidden] = 0.1
"""
MATCH = "accept t where token == parent.p.token"
KEEP = "h = t.last.p.hidden"


class Traced(torch.nn.Module):
    """A small network with attention of two rows to each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.mix = torch.nn.Linear(SIZE, SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.mix(x.reshape(-1, 2, SIZE))
        seen = torch.softmax(torch.matmul(rows, rows.transpose(1, 2)), -1)
        return torch.matmul(seen, rows).reshape(-1, 2 * SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for all modules."""
    made, draw = tmp_path_factory.mktemp("parts"), torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw) * 0.3

    heads = {f"{k}.0.weight": random(SIZE, SIZE).half() for k in range(3)}
    save_file({**heads, **{f"{k}.0.bias": random(SIZE) for k in range(3)}}, made / "head.safetensors")
    save_file({"a.weight": random(8, 2 * SIZE), "b.weight": random(SIZE, 8)}, made / "deep.safetensors")
    save_file({"a.weight": random(2 * SIZE, SIZE)}, made / "pair.safetensors")
    save_file({"a.weight": random(model().facts.vocab, SIZE)}, made / "guess.safetensors")
    save_file({"a.weight": random(1, SIZE)}, made / "judge.safetensors")
    rows = torch.export.Dim("rows")
    torch.export.save(
        torch.export.export(Traced(), (torch.zeros(3, 2 * SIZE),), dynamic_shapes=({0: rows},)), made / "traced.pt2"
    )
    return made


def strategy(folder: Path, draft: str, rest: str = MATCH, behind: str = KEEP, shape: str = "shape") -> Strategy:
    text = f"""strategy s {{
  model lm: causal
  {MEMBERS}
  canvas answer = empty(length)
  repeat {{
    draft t = {shape} from last {{ {draft} }}
    p = lm(t)
    {rest}
    {behind}
  }} until eos
}}"""
    return load(Source("s.dcs", text, folder))


def both(strategy: Strategy, heat: float = 0.0) -> tuple[list[Row], list[Row]]:
    """The oracle's rows, each alone, and the program's, in a batch; at temperature 0 without its generator."""
    program = lower(strategy, model(), batch=2, capacity=20, rng=heat > 0)
    found = compiled(program, PROMPTS, LENGTH, temperature=heat, seed=3)
    return oracle(strategy, PROMPTS, LENGTH, temperature=heat, seed=3), found


DRAFTS = {
    "a head for each depth": ("token = lm.head(h + silu(head[depth - 1](h))).ranked(rank)", KEEP),
    "the next token again": ("token = lm.head(h).ranked(rank + depth - 1)", KEEP),
    "a head of its own": ("token = guess(h).ranked(rank) if depth < 3 else none", KEEP),
    "one of two vectors": ("token = lm.head(pair(h)[(depth - 1) mod 2]).ranked(rank)", KEEP),
    "a row's vector": ("token = lm.head(g).ranked(rank)", "g = h * 0.5 - head[1](h) / 2\n h = t.last.p.hidden"),
    "a row's token": ("token = parent.token if n > 2 else lm.head(h).ranked(1)", "n = n + 1; " + KEEP),
    "carried down": (
        "h = parent.h + deep(parent.h, lm.embedding(parent.token)); token = lm.head(h).ranked(rank)", KEEP
    ),
    "carried down and on": (
        "g = parent.g / 2 + pair(parent.g)[1]; h = -deep(g, parent.h); token = lm.head(h + g).ranked(rank)",
        "g = t.last.g\n h = t.last.p.hidden + 1",
    ),
    "two a step": (
        "h = pair(parent.h)[0] if depth mod 2 == 1 else parent.g; "
        "g = pair(parent.h)[1] if depth mod 2 == 1 else parent.g; "
        "token = lm.head(h).ranked(rank)", KEEP + "; g = h",
    ),
    "a program": ("token = lm.head(traced(h, lm.embedding(parent.token))[rank mod 2]).ranked(rank)", KEEP),
    "a node's own number": ("n = parent.n + rank; token = lm.head(h).ranked(rank) if n < 2 else none", KEEP),
    "its sibling's rank": ("h = parent.h * (rank + 1); token = lm.head(h).ranked(0)", KEEP),
    "kept by depth, the root's too": (
        "token = lm.head(h).ranked(rank) if rank < 2 else table[depth - 1]",
        "table[t.depth] = lm.head(h).ranked(t.depth - 1)\n " + KEEP,
    ),
    "a table of vectors": (
        "token = lm.head(past[rank mod 2, depth - 1]).ranked(0)",
        "past[t.rank, t.depth - 1] = p.hidden - t.parent.p.hidden where t.depth < 3",
    ),
    "one cell of a table of vectors": (
        "h = past[0, 1] + parent.h; token = lm.head(h + past[n mod 3, depth]).ranked(rank)",
        "past[n mod 3, 1] = t.last.p.hidden * 2; n = n + 1; h = past[1, 1]",
    ),
    "where it stands": ("token = lm.head(lm.embedding(text[position - 2])).ranked(rank)", KEEP),
}  # fmt: skip


@pytest.mark.parametrize("heat", [0.0, pytest.param(0.9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", DRAFTS)
def test_any_head_leads_to_plain_decoding(folder: Path, name: str, heat: float) -> None:
    """The program is the oracle's, calls included, in a batch and alone; and the tokens are the model's own."""
    draft, behind = DRAFTS[name]
    want, got = both(strategy(folder, draft, behind=behind), heat)
    assert got == want
    plain = oracle(named("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    assert [row.answer for row in want] == [row.answer for row in plain]


ACCEPTS = {
    "a judge": "accept t where token == parent.p.token or judge(p.hidden) > 0.4",
    "a judge of its parent": "accept t where judge(parent.p.hidden) > 0.4 and rank == 0",
    "what it was made of": "accept t where judge(h + p.hidden) > 0.45",
    "typical": "accept t where parent.p.warped.prob(token) > min(0.09, 0.3 * exp(-parent.p.warped.entropy))",
}


@pytest.mark.parametrize("name", ACCEPTS)
def test_lossy_accepts(folder: Path, name: str) -> None:
    draft = "h = parent.h + head[0](parent.h); token = lm.head(h).ranked(rank)"
    behind = "h = t.last.p.hidden\n n = t.last.depth"
    for heat in (0.0, 0.9) if name == "typical" else (0.0,):
        want, got = both(strategy(folder, draft, ACCEPTS[name], behind), heat)
        assert got == want


def test_a_hidden_state_is_the_one_at_the_accepted_node(folder: Path) -> None:
    """The model's own head says of it what the bonus token was: so the first guess is always the root's own token."""
    guess = strategy(folder, "token = lm.head(h).ranked(rank)", behind=KEEP, shape="chain(1)")
    carried = strategy(folder, "token = lm.head(h).ranked(0)", "accept t where token == parent.token", shape="chain(1)")
    want, got = both(carried)
    assert got == want
    assert [row.calls for row in want] == [5, 5]  # from the second call on each brings its guess, and one token more
    assert both(guess)[0] != want


def widths(strategy: Strategy) -> Iterator[int]:
    """How many rows the heads of the vocabulary's width make."""
    (graph,) = lower(strategy, model(), capacity=20, rng=False).graphs
    vocab = model().facts.vocab
    for module in modules(graph.module):
        for node in module.graph.nodes:
            if node.target is torch.ops.aten.linear.default and node.meta["val"].shape[-1] == vocab:
                yield node.meta["val"].shape[-2]


@pytest.mark.parametrize(
    ("draft", "rows"),
    [
        ("token = lm.head(h).ranked(rank)", [1]),
        ("token = lm.head(head[depth - 1](h)).ranked(rank)", [3]),
        ("h = parent.h + lm.embedding(parent.token); token = lm.head(h).ranked(rank)", [1, 3, 6]),
        ("h = parent.h * rank; token = lm.head(h).ranked(rank)", [3, 6, 6]),
    ],
)
def test_scores_are_as_many_rows_as_there_are_vectors(folder: Path, draft: str, rows: list[int]) -> None:
    assert list(widths(strategy(folder, draft))) == [*rows, 16]


# ---------------------------------------------------------------- files


def test_files_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    def settled(tensors: dict[str, torch.Tensor]) -> Strategy:
        save_file(tensors, tmp_path / "x.safetensors")
        (tmp_path / "s.dcs").write_text(TEXT)
        return compiler.read(tmp_path / "s.dcs", {"head": str(tmp_path / "x.safetensors")})

    wide = {f"{k}.0.weight": torch.zeros(SIZE + 1, SIZE + 1) for k in range(3)}
    (found,) = check_model(settled(wide), model().facts)
    assert found.code == "wrong-module"
    assert (
        f"`head` is to go {SIZE} -> {SIZE} with this model, and its file holds {SIZE + 1} -> {SIZE + 1}" in found.title
    )
    for tensors, words in (
        ({f"{k}.0.weight": torch.zeros(SIZE, SIZE) for k in range(2)}, "and 3 networks are asked for"),
        ({f"{k}.0.weight": torch.zeros(SIZE + k, SIZE + k) for k in range(3)}, "networks of different shapes"),
        ({f"{k}.{i}.weight": torch.zeros(3 + i, 4) for k in range(3) for i in range(2)}, "do not follow each other"),
        ({f"{k}.0.weight": torch.zeros(SIZE, SIZE).double() for k in range(3)}, "as F64"),
    ):
        with pytest.raises(CompileError, match=words):
            settled(tensors)


TEXT = """strategy s {
  model lm: causal
  module head[3](float[hidden]) -> float[hidden] = "head.safetensors"
  state h: float[hidden] = 0
  canvas answer = empty(length)
  repeat {
    draft t = chain(3) from last { token = lm.head(head[depth - 1](h)).ranked(rank) }
    p = lm(t)
    accept t where token == parent.p.token
    h = t.last.p.hidden
  } until eos
}
"""
