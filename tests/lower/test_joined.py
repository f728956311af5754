"""Drafts that are joined: the program's tree is the oracle's, a text that two drafts have is one path of it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from dcompile.reference import drafts, run
from dcompile.reference.row import Drafted, Row
from dcompile.strategy import Draft, Strategy
from tests.lower.test_drafts import LENGTH, PROMPTS, both, drafter
from tests.passes.rows import model, oracle, read

PARTS = {
    "text": "chain(4) from last { token = text[at + depth - 1] if at >= 0 else none }",
    "table": "shape from last { token = table[parent.token, rank] }",
    "small": "expand(2, 2) from last by small drawing distinct",
    "beam": "beam(3, 3, 6) from last by small",
    "wide": "expand(3) from last { token = table[parent.token, 2 - rank] }",
}
SETS = [
    ("table", "text"),
    ("text", "table", "wide"),
    ("text", "small"),
    ("beam", "table"),
    ("table", "text", "beam"),
]
QUICK = [(("text", "table", "wide"), 0.0), (("beam", "table"), 0.9)]


def program(names: tuple[str, ...], kept: str = "where token == parent.p.token") -> Strategy:
    second = "model small: causal" if {"small", "beam"} & set(names) else ""
    each = "\n    ".join(f"draft {name}_ = {PARTS[name]}" for name in names)
    return read(f"""strategy s {{
  model lm: causal
  {second}
  state table: token[vocab, 4] = 0
  state seen: int[8, 8] = 0
  tree shape = expand(4, 2, 2)
  canvas answer = empty(length)
  repeat {{
    at = found(1)
    {each}
    draft t = {" union ".join(f"{name}_" for name in names)}
    p = lm(t)
    accept t {kept}
    table[t.token] = p.top(4)
    seen[t.rank, t.depth] = t.parent.position where t.depth > 0
  }} until eos
}}""")


def models(names: tuple[str, ...]) -> dict[str, Any]:
    return {"lm": model()} | ({"small": drafter()} if {"small", "beam"} & set(names) else {})


def cases() -> list[Any]:
    every = itertools.product(SETS, [0.0, 0.9])
    return [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in every]


@pytest.mark.parametrize(("names", "heat"), cases())
def test_the_program_joins_as_the_oracle_does(names: tuple[str, ...], heat: float) -> None:
    want, got = both(program(names), models(names), temperature=heat, seed=3)
    assert got == want
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    assert [row.answer for row in want] == [row.answer for row in plain]


@pytest.mark.parametrize("kept", ["where parent.p.max < 0.9", "where rank == 0 and depth < 3"])
def test_any_condition(kept: str) -> None:
    names = ("table", "text")
    want, got = both(program(names, kept), models(names))
    assert got == want


def test_a_union_has_each_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The live paths are those of the parts; and some are of both."""
    right, merged = drafts.draft, []

    def noted(row: Row, stmt: Draft) -> None:
        right(row, stmt)
        if stmt.of:
            parts = [set(texts(row.drafts[name])) for name in stmt.of]
            found = texts(row.drafts[stmt.name])
            assert len(found) == len(set(found)) and set(found) == set.union(*parts)
            merged.append(sum(map(len, parts)) - len(found))

    monkeypatch.setattr("dcompile.reference.statements.drafts.draft", noted)
    for prompt in PROMPTS:
        run(program(("text", "table", "wide")), model(), prompt, length=LENGTH)
    assert max(merged) > 1


def texts(drafted: Drafted) -> list[tuple[int, ...]]:
    """The tokens of the path to each live node."""
    return [
        tuple(drafted.tokens[i] for i in drafted.tree.ancestors[n]) for n in range(drafted.tree.size) if drafted.live[n]
    ]
