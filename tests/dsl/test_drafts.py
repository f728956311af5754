"""Draft trees and tables: what they mean, and what is proved of them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from dcompile import outline
from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.dsl.checker import Report, report
from dcompile.dsl.formatter import format
from dcompile.dsl.parser import parse
from dcompile.source import Source
from dcompile.strategy import Accept, Draft, Fill, Parent, Rule, Score, Strategy, walk
from dcompile.trees import chain, expand
from tests.dsl.literate import facts

HEAD = """strategy s {
  param width = 4
  model lm: causal
  model small: causal
  state table: token[vocab, 8] = 0 per session
  state seen: int[4] = 0
  canvas answer = empty(length)
  repeat {
"""


def program(body: str, head: str = "") -> Source:
    """A strategy with some lines in its loop."""
    return Source("s.dcs", HEAD.replace("strategy s {\n", "strategy s {\n" + head) + body + "\n  } until eos\n}\n")


def lines(strategy: Strategy) -> list[str]:
    """The loop of a strategy, as it is printed."""
    text = outline.text(strategy)
    return [line.strip() for line in text[text.index("repeat") :].splitlines()[1:]]


def found(body: str) -> Report:
    return report(load(program(body)))


# ---------------------------------------------------------------- what it means


def test_a_draft_from_a_table() -> None:
    made = load(
        program("""
    draft t = expand(2, 1) from last { token = table[parent.token, rank] if depth < width else none }
    p = lm(t)
    accept t where token == parent.p.token
    table[t.token] = p.top(8) where t.depth > 0
    """)
    )
    assert lines(made) == [
        "draft name=t, tree=tree of 5 nodes, by depth 1 2 2, tokens=select(lt(nodefact(name=depth), 4),"
        " entry(table=table, index=[parent(value=field(name=token)), nodefact(name=rank)]), -1), site=0",
        "call name=p, model=lm, feed=nodes(draft=t), site=0",
        "accept draft=t, dist=p, where=eq(field(name=token), parent(value=score(dist=p, kind=token))), site=0",
        "fill table=table, index=[field(name=token)], value=best(dist=p, count=8), draft=t,"
        " where=gt(nodefact(name=depth), 0)",
    ]
    assert made.states[0].sizes == (0, 8) and made.states[0].lifetime == "session"


def test_a_drafter_and_its_rule() -> None:
    made = load(
        program("""
    draft t = chain(width) from last by small
    p = lm(t)
    accept t by rejection(p, t.q) or where parent.p.prob(token) > 0.3
    draft u = expand(2) from last by small drawing distinct
    q = lm(u)
    accept u by recursive_distinct
    """)
    )
    assert lines(made) == [
        "draft name=t, tree=tree of 5 nodes, by depth 1 1 1 1 1, model=small, drawn=sample, site=0",
        "call name=p, model=lm, feed=nodes(draft=t), site=0",
        "accept draft=t, dist=p, where=gt(chance(dist=p, of=field(name=token)), 0.3), rule=rejection, site=0",
        "draft name=u, tree=tree of 3 nodes, by depth 1 2, model=small, drawn=distinct, site=1",
        "call name=q, model=lm, feed=nodes(draft=u), site=1",
        "accept draft=u, dist=q, rule=recursive_distinct, site=1",
    ]


def test_cells_of_the_row_and_of_nodes() -> None:
    made = load(
        program("""
    start = found(2, latest)
    draft t = chain(width) from last { token = text[start + depth - 1] }
    p = lm(t)
    accept t where token == parent.parent.p.token and parent.p.token == token
    seen[t.depth - t.accepted - 1] = t.parent.rank
    seen[0] = seen[1] + 1
    """)
    )
    assert lines(made)[0] == "assign name=start_2, value=found(size=2, latest=True)"
    fills = [n for n in walk(made.body) if isinstance(n, Fill)]
    assert [f.draft for f in fills] == ["t", None]
    assert fills[0].index[0].type.each and fills[0].value.type.each and not fills[1].value.type.each
    (accept,) = (n for n in walk(made.body) if isinstance(n, Accept))
    assert any(isinstance(n, Parent) and isinstance(n.value, Parent) for n in walk(accept.where))


def test_a_number_of_the_row_is_filled_in_at_every_node() -> None:
    made = load(
        program("""
    draft t = chain(width) from last { token = token(5) }
    p = lm(t)
    accept t where p.max > 0.5
    seen[t.rank] = 7
    """)
    )
    (draft,) = (n for n in walk(made.body) if isinstance(n, Draft))
    (fill,) = (n for n in walk(made.body) if isinstance(n, Fill))
    assert draft.tokens is not None and draft.tokens.type.each and fill.value.type.each


def test_rules_and_actions_take_drafts() -> None:
    made = load(
        Source(
            "s.dcs",
            HEAD
            + """
    draft t = chain(width) from last by small
    p = lm(t)
    keep(t, p)
  } until eos
  rule sure(p, limit) { return parent.p.prob(token) > limit and match(p) }
  rule match(p) { return token == parent.p.token }
  action keep(t, p) {
    accept t where sure(p, 0.3)
    seen[t.depth] = 1
  }
}
""",
        )
    )
    (accept,) = (n for n in walk(made.body) if isinstance(n, Accept))
    assert accept.draft == "t" and len([n for n in walk(accept.where) if isinstance(n, Score)]) == 1
    assert report(made).lossless.verdict == "proved"


def test_which_call_decides() -> None:
    two = "draft t = chain(2) from last by small\np = lm(t)\nq = lm(t)\n"
    made = load(program(two + "accept t where token == parent.p.token"))
    assert [n.dist for n in walk(made.body) if isinstance(n, Accept)] == ["p"]
    with pytest.raises(CompileError, match="which call on the draft decides"):
        load(program(two + "accept t by rejection"))


def test_shapes_of_trees(tmp_path: Path) -> None:
    body = "draft t = shape from last by small drawing top\np = lm(t)\naccept t where token == parent.p.token"

    def shape(text: str, **settings: str) -> object:
        made = load(program(body, f"tree shape = {text}\n"), settings)
        return next(n.tree for n in walk(made.body) if isinstance(n, Draft))

    assert shape("chain(3)") == chain(3)
    assert shape("expand(4, 2)") == expand(4, 2)
    assert shape("[[0], [0, 0], [1]]") == shape("[[1], [0, 0], [0]]")
    (tmp_path / "a.tree").write_text("1 0 0  # the first\n2 0 1\n", encoding="utf-8")
    assert shape("chain(2)", shape=str(tmp_path / "a.tree")) == expand(2)
    read = load(Source("s.dcs", program(body, 'tree shape = "a.tree"\n').text, tmp_path))
    assert [t.name for t in read.trees] == ["shape"] and read.trees[0].text.startswith("1 0 0")


def test_a_bad_file_is_told_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.tree").write_text("1 0 0\n2 5 0\n", encoding="utf-8")
    with pytest.raises(CompileError, match=r"a\.tree:2:1"):
        load(Source("s.dcs", program("append token(3)", 'tree shape = "a.tree"\n').text, tmp_path))


# ---------------------------------------------------------------- how it is written


def test_the_words_are_names_too() -> None:
    text = "draft = found(2)\ntree = draft\nby = tree\ndraft t = chain(2) from last { token = text[by] }\np = lm(t)\n"
    load(program(text + "accept t where token == parent.p.token"))


UGLY = """strategy s {
  tree   shape=expand( 4,2 )  # wide
  repeat {
    # the draft
    draft t=shape from last{
      token=table[ parent.token,rank ]  # of the table
    }
    if eos { x = 1 }
    accept t where token==parent.p.token  # the match
    accept t by rejection( p,t.q )or where(x)
    table[ t.token ]=p.top( 8 )where t.depth>0
  }until eos
}
"""
NEAT = """strategy s {
  tree shape = expand(4, 2)  # wide
  repeat {
    # the draft
    # of the table
    draft t = shape from last { token = table[parent.token, rank] }
    if eos {
      x = 1
    }
    accept t where token == parent.p.token  # the match
    accept t by rejection(p, t.q) or where x
    table[t.token] = p.top(8) where t.depth > 0
  } until eos
}
"""


def test_how_it_looks() -> None:
    file = parse(Source("s.dcs", UGLY))
    assert format(file) == NEAT
    assert parse(Source("s.dcs", NEAT)) == file


# ---------------------------------------------------------------- what is proved

RULED = "draft t = {shape} from last by small drawing {drawn}\np = lm(t)\naccept t by {rule}(p, t.q)"
SOUND = {
    "recursive": {"sample"}, "recursive_distinct": {"distinct", "sample"}, "kseq": {"sample"},
    "greedy": {"greedy", "distinct", "sample"},
    "traversal": {"sample", "distinct"},
}  # fmt: skip


@pytest.mark.parametrize("drawn", ["sample", "distinct", "top", "greedy"])
@pytest.mark.parametrize("rule", get_args(Rule))
def test_rules_and_draws(rule: str, drawn: str) -> None:
    one = found(RULED.format(shape="chain(3)", drawn=drawn, rule=rule)).lossless
    assert one.verdict == ("greedy only" if drawn == "top" else "proved")
    if rule in SOUND:
        several = found(RULED.format(shape="expand(3, 2)", drawn=drawn, rule=rule)).lossless
        assert several.verdict == ("proved" if drawn in SOUND[rule] else "greedy only")
        assert several.line == (0 if drawn in SOUND[rule] else 11)


CONDITIONS = {
    "token == parent.p.token": "proved",
    "parent.p.token == token": "proved",
    "parent.p.sample == token and depth < 3": "proved",
    "token == parent.p.top": "greedy only",
    "token == parent.p.token or depth < 2": "lossy",
    "token != parent.p.token": "lossy",
    "token == p.token": "lossy",
    "parent.p.prob(token) > min(0.09, 0.3 * exp(-parent.p.entropy))": "lossy",
}


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("draft", ["by small drawing top", "{ token = table[parent.token, rank] }"])
def test_conditions(condition: str, draft: str) -> None:
    told = found(f"draft t = expand(3, 2) from last {draft}\np = lm(t)\naccept t where {condition}")
    assert told.lossless.verdict == CONDITIONS[condition]
    assert told.cache.verdict == "exact" and told.progress[0].verdict == "ends"


def test_a_judge_is_lossy_and_the_worst_accept_counts() -> None:
    turn = "draft {t} = chain(3) from last by small\n{p} = lm({t})\naccept {t} by rejection{more}\n"
    first = turn.format(t="t", p="p", more="")
    assert found(first + turn.format(t="u", p="q", more=" or where q.max > 0.5")).lossless.verdict == "lossy"
    assert found(first + turn.format(t="u", p="q", more="")).lossless.verdict == "proved"


def test_drafts_and_plain_decoding_in_turn() -> None:
    told = found("""start = found(2)
    if start < 0 {
      p = lm(last)
      append p.token
    } else {
      draft t = chain(width) from last { token = text[start + depth - 1] }
      q = lm(t)
      accept t where token == parent.q.token
    }""")
    assert (told.lossless.verdict, told.cache.verdict) == ("proved", "exact")
    assert not told.diagnostics


@pytest.mark.parametrize("turn", ["p = lm(last)\nif length > 3 { refresh lm(last) }\nappend p.token",
                                  "if length > 3 { refresh lm(last) }\nappend token(3)"])  # fmt: skip
def test_what_a_call_in_a_branch_has_not_seen_the_next_one_is_fed(turn: str) -> None:
    assert found(turn).cache.verdict == "exact"
    assert found(turn.replace("refresh lm(last)", "refresh lm(last) keep none")).cache.verdict == "approximate"


def test_what_a_turn_costs() -> None:
    body = "draft t = expand(3, 2) from last { token = table[parent.token, rank] }\np = lm(t)\naccept t where p.max > 0"
    strategy = load(program(body))
    told = report(strategy, facts("causal"), capacity=64, batch=2)
    assert told.calls[0].verdict.startswith("10 nodes")
    sizes = dict(told.memory)
    assert sizes["state table: token[vocab, 8]"] == 2 * 512 * 8 * 8
    assert sizes["state seen: int[4]"] == 2 * 4 * 8
    assert "state table: token[vocab, 8]" not in dict(report(strategy, None, capacity=64).memory)
