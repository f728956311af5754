"""What the checker says of branches: whether their drafts change the tokens, and whether a loop of them ends."""

from __future__ import annotations

import pytest

from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.dsl.checker import Report, report
from dcompile.source import Source

PLAIN = """strategy s {
  model lm: block_causal(4)
  canvas answer = masked(length)
  state guess: token[canvas] = 0
  state score: float[canvas] = 0.0
  state n: int = 0

  refresh lm(whole(prompt, 4))
  for b in blocks(canvas, 4) {
    p = lm(b) keep none
    guess = p.token if b else guess
    score = p.max if b else score
    while count(masked in b) > 1 {
      branch j in 1 to min(4, count(masked in b) - 1) {
        commit guess at top(masked in b, j, by: score)
        q = lm(b) keep none
        guess = q.token if b else guess
        score = q.max if b else score
      } accept guess at top(masked in b, 1, by: score)
    }
    commit guess at top(masked in b, 1, by: score)
    refresh lm(b)
  }
}
"""
ACCEPT = "accept guess at top(masked in b, 1, by: score)"
BRANCH = "branch j in 1 to min(4, count(masked in b) - 1) {"
NOTE = "score = q.max if b else score"
DRAFT = "commit guess at top(masked in b, j, by: score)"
LOOP = "while count(masked in b) > 1 {"
READ = "    n = n + floor(sum(score in b))\n"
LAST = "    commit guess at top(masked in b, 1, by: score)\n    refresh"


def found(*changes: tuple[str, str]) -> Report:
    text = PLAIN
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return report(load(Source("s.dcs", text)))


SAME: dict[str, list[tuple[str, str]]] = {
    "as it stands": [],
    "a draft that lacks some, of a policy of one token": [(ACCEPT, ACCEPT.replace("accept", "accept within"))],
    "until nothing is masked": [(LOOP, "while any(masked in b) {"), ("- 1) {", ") {"), (LAST, "    refresh")],
    "the leftmost": [(f"{DRAFT}\n", "commit guess at take(masked in b, atmost: j)\n"),
                     (ACCEPT, "accept guess at take(masked in b, atmost: 1)"),
                     (LAST, "    commit guess at take(masked in b, atmost: 1)\n    refresh")],
    "keys and values kept": [("q = lm(b) keep none", "q = lm(b)")],
}  # fmt: skip

OTHER: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a longer first draft": ([(DRAFT, DRAFT.replace("j,", "j + 1,"))], "the first draft is not"),
    "another order": ([(DRAFT, DRAFT.replace("score", "position"))], "the first draft is not"),
    "a draft that lacks some, of two": (
        [(ACCEPT, "accept within guess at top(masked in b, 2, by: score)"), (DRAFT, DRAFT.replace("j,", "j + 1,"))],
        "lacks some of the policy's tokens",
    ),
    "a branch's number in what it leaves": ([(NOTE, "score = q.max * j if b else score")], "more than the canvas"),
    "a count in what it leaves": ([(NOTE, NOTE + "\n        n = n + 1")], "more than the canvas"),
    "a call on what is masked": ([("q = lm(b) keep none\n        guess = q.token if b",
                                   "q = lm(masked in b) keep none\n        guess = q.token if masked in b"),
                                  (NOTE, "score = q.max if masked in b else score")], "feeds or keeps"),
    "kept where it is masked": ([("q = lm(b) keep none", "q = lm(b) keep masked")], "feeds or keeps"),
    "two writes": ([(NOTE, NOTE + "\n        overwrite token(7) at first(b)")], "more than to draft"),
    "a draft behind the call": ([(DRAFT, ""), (NOTE, NOTE + "\n        " + DRAFT)], "does not begin"),
    "something else in the loop": ([(ACCEPT, ACCEPT + "\n      n = n + 1")], "not all that a turn"),
    "no last step": ([(LAST, "    r = lm(b)\n    commit r.token at masked in b\n    refresh")], "may end between"),
    "a loop that ends early": ([(LOOP, "while count(masked in b) > 2 {")], "may end between"),
    "the last branch's scores, read later": ([(LAST, LAST.replace("    refresh", READ + "    refresh"))],
                                             "read elsewhere"),
}  # fmt: skip


@pytest.mark.parametrize("word", SAME)
def test_drafts_that_change_nothing(word: str) -> None:
    told = found(*SAME[word])
    assert [f.verdict for f in told.branches] == ["change no token"], told.branches
    assert told.lossless.verdict == "proved", told.lossless
    assert not told.diagnostics


@pytest.mark.parametrize("word", OTHER)
def test_drafts_that_may_change_something(word: str) -> None:
    changes, why = OTHER[word]
    told = found(*changes)
    assert [f.verdict for f in told.branches] == ["may change tokens"]
    assert why in told.branches[0].why
    assert told.lossless.verdict == "lossy" and told.lossless.line > 0


ONE = "strategy s {\nmodel lm: masked\ncanvas answer = masked(length)\nstate guess: token[canvas] = 0\n%s\n}\n"
TURN = "while any(masked) {\n p = lm(everything)\n %s\n}"
OWN = {
    "of the call": (TURN % "guess = p.token\n commit guess at first(masked)", ""),
    "of the call, in a part": (TURN % "guess = p.token if masked else guess\n commit guess at first(masked)", ""),
    "by another name": (TURN % "guess = p.token\n mine = guess\n commit mine at first(masked)", ""),
    "before the first call": ("commit guess at first(masked)\np = lm(everything)\nguess = p.token", "not the model's"),
    "of the turn before": (TURN % "commit guess at first(masked)\n guess = p.token", "not the model's own"),
    "on one way": (TURN % "if any(prompt) { guess = p.token }\n commit guess at first(masked)", "not the model's own"),
    "elsewhere": (TURN % "guess = p.token if prompt else guess\n commit guess at first(masked)", "not the model's own"),
    "twice": (TURN % "guess = p.token\n commit guess at first(masked)\n commit guess at first(masked)", "a second"),
    "twice, by two names": (TURN % "guess = p.token\n commit p.token at first(masked)\n commit guess at first(masked)",
                            "a second"),
    "of the block before": (
        "for b in blocks(answer, 4) {\nif count(b) > 3 { p = lm(everything)\n guess = p.token if b else guess }\n"
        "commit guess at first(masked in b)\n}", "not the model's own"),
}  # fmt: skip


@pytest.mark.parametrize("word", OWN)
def test_what_is_committed_must_be_a_calls_own(word: str) -> None:
    body, why = OWN[word]
    told = report(load(Source("s.dcs", ONE % body)))
    assert told.lossless.verdict == ("lossy" if why else "proved")
    assert why in told.lossless.why


def test_a_loop_of_branches_ends() -> None:
    assert [f.verdict for f in found().progress] == ["ends"] * 2
    with pytest.raises(CompileError, match="no-progress"):
        found((BRANCH, BRANCH.replace("- 1", "- 2")))
    with pytest.raises(CompileError, match="no-progress"):
        found((DRAFT, DRAFT.replace("j,", "j - 1,")))
