"""Any text gives a Strategy or a CompileError, never another exception; and what parses can be formatted."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark

from dcompile.diagnostic import CompileError
from dcompile.dsl import STANDARD
from dcompile.dsl.elaborate import elaborate
from dcompile.dsl.formatter import format
from dcompile.dsl.parser import grammar, parse
from dcompile.source import Source
from dcompile.strategy import Strategy

TEXTS = [path.read_text(encoding="utf-8") for path in sorted(STANDARD.glob("*.dcs"))]
TOKEN = re.compile(r"#[^\n]*|[A-Za-z_]\w*|[0-9.]+|\s+|.", re.S)
WORDS = sorted({t for text in TEXTS for t in TOKEN.findall(text) if not t.startswith("#") and t.strip()})
WORDS += [
    "draft",
    "tree",
    "[",
    "]",
    "\n",
    ";",
    "keep none",
    "1e999",
    "99999999999999999999",
    "-",
    "é",
    "\t",
    "\x00",
    "$",
]


def total(text: str) -> None:
    """Elaborate a text; what comes out of a good one is a Strategy whose form is stable under formatting."""
    try:
        file = parse(Source("fuzz.dcs", text))
        again = parse(Source("again.dcs", format(file)))
        assert again == file
        assert [c.text for c in again.comments] == [c.text for c in file.comments]
        assert isinstance(elaborate(file), Strategy)
    except CompileError as e:
        assert e.diagnostics
        assert all(str(d).startswith("error[") for d in e.diagnostics)


@given(st.text())
def test_any_text(text: str) -> None:
    total(text)


@given(st.text(alphabet="{}()[]=:;.,#\n abmlp0123><"))
def test_any_signs(text: str) -> None:
    total("strategy s { model lm: masked; " + text)


@given(st.randoms(use_true_random=False), st.sampled_from(TEXTS), st.integers(1, 6))
def test_good_texts_with_slips(chance: random.Random, text: str, slips: int) -> None:
    tokens = TOKEN.findall(text)
    for _ in range(slips):
        at = chance.randrange(len(tokens))
        other = chance.randrange(len(tokens))
        match chance.randrange(5):
            case 0:
                del tokens[at : at + chance.randint(1, 5)]
            case 1:
                tokens[at] = chance.choice(WORDS)
            case 2:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 3:
                tokens.insert(at, chance.choice(WORDS))
            case _:
                tokens[at:at] = tokens[other : other + chance.randint(1, 12)]
        tokens = tokens or [" "]
    total("".join(tokens))


@settings(max_examples=20)
@given(from_lark(grammar(), start="start"))
def test_texts_of_the_grammar(text: str) -> None:
    total(text)


@pytest.mark.parametrize("sign", ["(", "[", "-", "not ", "{", "a.", "f(", "1 + (", "repeat {", "if a {"])
def test_deep_texts(sign: str) -> None:
    total("strategy s { model lm: masked; canvas answer = masked(length); x = " + sign * 5000)
    total("strategy s { model lm: masked; canvas answer = masked(length); x = " + sign * 5000 + "1")
    total("strategy s { " + sign * 3000 + "}" * 3000 + "}")


@pytest.mark.parametrize("op", ["+", "and", "where", "in", ".a", "if a else"])
def test_long_chains(op: str) -> None:
    chain = f" {op} ".join(["1"] * 4000) if op != ".a" else "p" + ".a" * 4000
    total(f"strategy s {{ model lm: masked; canvas answer = masked(length); x = {chain} }}")


def test_rules_that_double() -> None:
    doubling = "\n".join(f"  x{i + 1} = x{i} + x{i}" for i in range(60))
    rule = f" rule f(x0) {{\n{doubling}\n  return x60\n }}\n"
    total("strategy s { model lm: causal\n canvas answer = empty(length)\n" + rule + " y = f(length) }")
