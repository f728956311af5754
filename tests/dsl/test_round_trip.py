"""`parse(format(t)) == t`, for trees of any form and for the texts at hand; comments stay, and formatting is stable."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcompile.dsl import STANDARD, syntax
from dcompile.dsl.elaborate import elaborate
from dcompile.dsl.formatter import expr, format
from dcompile.dsl.parser import parse
from dcompile.source import NOWHERE, Source
from tests.drafting import drafting
from tests.strategies import programs

NAMES = st.sampled_from(["p", "b", "masked", "threshold", "count", "keep", "to", "down", "asc", "per", "at", "x_1"])
IDENTS = st.builds(syntax.Ident, st.just(NOWHERE), NAMES)
NUMBERS = st.integers(0, 10**6) | st.floats(0, 1e6)
SIGNS = ["+", "-", "*", "/", "//", "mod", "<", "<=", ">", ">=", "==", "!=", "and", "or"]


def _deeper(inner: st.SearchStrategy[syntax.Expr]) -> st.SearchStrategy[syntax.Expr]:
    here = st.just(NOWHERE)
    orders = st.sampled_from(["", "asc", "desc"])
    plain = st.builds(syntax.Argument, here, st.none(), inner, st.just(""))
    named = st.builds(syntax.Argument, here, IDENTS | st.just(syntax.Ident(NOWHERE, "while")), inner, orders)
    arguments = st.lists(plain | named, max_size=3).map(tuple)
    return st.one_of(
        st.builds(syntax.Unary, here, st.sampled_from(["-", "not"]), inner),
        st.builds(syntax.Binary, here, st.sampled_from(SIGNS), inner, inner),
        st.builds(syntax.In, here, inner, inner),
        st.builds(syntax.Where, here, inner, inner),
        st.builds(syntax.Choice, here, inner, inner, inner),
        st.builds(syntax.Attribute, here, inner, IDENTS),
        st.builds(syntax.Method, here, inner, IDENTS, arguments),
        st.builds(syntax.Apply, here, IDENTS, arguments),
        st.builds(syntax.Index, here, inner, st.lists(inner, max_size=3).map(tuple)),
        st.builds(syntax.Listing, here, st.lists(inner, max_size=3).map(tuple)),
    )


EXPRESSIONS = st.recursive(
    st.builds(syntax.Number, st.just(NOWHERE), NUMBERS)
    | st.builds(syntax.Truth, st.just(NOWHERE), st.booleans())
    | st.builds(syntax.Word, st.just(NOWHERE), NAMES),
    _deeper,
    max_leaves=12,
)


def body(text: str) -> syntax.Stmt:
    """The one statement of a strategy."""
    item = parse(Source("x.dcs", f"strategy s {{\n{text}\n}}")).items[0]
    assert isinstance(item, syntax.Strategy)
    return item.members[0]


@given(EXPRESSIONS)
def test_expressions(tree: syntax.Expr) -> None:
    statement = body(f"x = {expr(tree)}")
    assert isinstance(statement, syntax.Assign)
    assert statement.value == tree


def stable(text: str) -> None:
    """Formatting changes neither the tree nor the comments, and formatted text not at all."""
    file = parse(Source("x.dcs", text))
    once = format(file)
    again = parse(Source("x.dcs", once))
    assert again == file
    assert [c.text for c in again.comments] == [c.text for c in file.comments]
    assert format(again) == once


@given(programs() | drafting())
def test_programs(text: str) -> None:
    stable(text)


@pytest.mark.parametrize("path", sorted(STANDARD.glob("*.dcs")), ids=lambda p: p.stem)
def test_the_standard_library_is_in_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    stable(text)
    assert format(parse(Source(path.name, text))) == text


@given(programs() | drafting())
def test_the_meaning_stays(text: str) -> None:
    file = parse(Source("x.dcs", text))
    first = elaborate(file)
    second = elaborate(parse(Source("x.dcs", format(file))))
    assert (first.body, first.canvas, first.states) == (second.body, second.canvas, second.states)


UGLY = """
# head
strategy   s{model lm:masked# kind
 param a: tokens=[1,2];param   b  = -3 in -4 .. 4  # why
     canvas answer=masked ( length )


  # before the loop
  for x in blocks(answer ,4){# in the head
    # inside
    p=lm(everything)   with temperature 1+1 keep (a or b)
    commit p.token at top( masked in x,# in an argument
       1 ,by:p.max )
    # at the end
  } # behind
  if a and(b or c){ stop on eos }
  else if not (a in b) { break } else
{ repeat{ append p.token }
   until eos # done
  }
}
# tail"""

NEAT = """\
# head
strategy s {
  model lm: masked  # kind
  param a: tokens = [1, 2]
  param b         = -3 in -4..4  # why
  canvas answer = masked(length)

  # before the loop
  for x in blocks(answer, 4) {  # in the head
    # inside
    p = lm(everything) with temperature 1 + 1 keep a or b
    # in an argument
    commit p.token at top(masked in x, 1, by: p.max)
    # at the end
  }  # behind
  if a and (b or c) {
    stop on eos
  } else if not a in b {
    break
  } else {
    repeat {
      append p.token
    } until eos  # done
  }
}
# tail
"""


def test_how_it_looks() -> None:
    text = UGLY.replace("else\n{", "else {")
    assert format(parse(Source("ugly.dcs", text))) == NEAT
    stable(text)
