"""Small programs on written-down predictions, with answers worked out by hand.

The prompt is two tokens, positions 0 and 1; the answer's four are 2 to 5. Token 7 is the mask, token 1 the eos.
"""

from __future__ import annotations

import pytest

from dcompile.diagnostic import CompileError
from dcompile.reference import Forced
from tests.reference.scripted import EOS, MASK, Scripted, fed, play, scripted

TABLE = {2: {4: 0.6}, 3: {5: 0.9}, 4: {6: 0.8, 5: 0.1}, 5: {3: 0.7}}


def chosen(text: str) -> list[int]:
    """The answer positions (2..5) that a program commits after one call; -1 is left out."""
    result = play(f"p = lm(everything)\n{text}", scripted(TABLE))
    return [i for i, order in enumerate(result.order, start=2) if order]


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        ("masked", [2, 3, 4, 5]),
        ("everything", [2, 3, 4, 5]),  # only masked positions are committed
        ("top(masked, 2, by: p.max)", [3, 4]),
        ("top(masked, 2, by: p.max asc)", [2, 5]),
        ("top(masked, 0, by: p.max)", []),
        ("top(masked, 9, by: p.max)", [2, 3, 4, 5]),
        ("masked where p.max >= 0.7", [3, 4, 5]),
        ("take(masked, by: p.max desc, while: p.max >= 0.85)", [3]),
        ("take(masked, by: p.max desc, while: p.max >= 0.95)", []),
        ("take(masked, by: p.max desc, while: p.max >= 0.95, atleast: 2)", [3, 4]),
        ("take(masked, by: p.max desc, while: p.max >= 0.1, atmost: 1)", [3]),
        ("take(masked, by: p.max desc, while: p.max >= 0.95, atleast: 3, atmost: 2)", [3, 4]),
        ("take(masked, while: p.max < 0.85)", [2]),  # from left to right, and the run ends at position 3
        ("take(masked, by: p.max desc, while: count <= 3)", [3, 4, 5]),
        ("take(masked, by: p.max desc, while: sum(p.max) <= 1.8)", [3, 4]),
        ("take(masked, by: p.max asc, while: max(p.max) < 0.75)", [2, 5]),
        ("take(masked, by: p.max desc, atmost: 1, per: blocks(2))", [3, 4]),
        ("take(masked where p.max != p.prob(token(6)), by: p.max desc, atmost: 1, per: runs)", [3, 5]),
        ("first(masked)", [2]),
        ("after(prompt)", [2]),
        ("before(masked where p.max > 0.85)", [2]),
        ("from(masked where p.max > 0.85)", [3, 4, 5]),
        ("upto(masked where p.max > 0.85)", [2]),
        ("dilate(masked where p.max > 0.85, 1)", [2, 3, 4]),
        ("masked where position mod 2 == 1", [3, 5]),
        ("masked and not top(masked, 1, by: p.max)", [2, 4, 5]),
        ("masked where p.token == token(5)", [3]),
        ("masked where p.prob(token(5)) >= 0.1", [3, 4]),
        ("masked where p.margin > 0.68", [3, 4]),
        ("top(masked, 1, by: p.entropy asc)", [3]),
        ("top(masked, 1, by: p.without([6]).max)", [3]),
        ("top(masked, 1, by: p.without([5, 6]).max)", [5]),
        ("unreadable(masked)", []),
    ],
)
def test_selection(selection: str, wanted: list[int]) -> None:
    assert chosen(f"commit p.token at {selection}") == wanted


def test_equal_keys_go_to_the_lowest_position() -> None:
    even = scripted({i: {4: 0.5} for i in range(6)})
    assert play("p = lm(everything)\ncommit p.token at top(masked, 2, by: p.max)", even).order == (1, 1, 0, 0)


def test_minus_zero_is_zero() -> None:
    text = "p = lm(everything)\ncommit p.token at top(masked, 1, by: 0.0 if position == 2 else -0.0)"
    assert play(text, scripted(TABLE)).order == (1, 0, 0, 0)


def test_what_was_not_committed_stays_masked() -> None:
    result = play("p = lm(everything)\ncommit p.token at top(masked, 2, by: p.max)", scripted(TABLE))
    assert result.output_ids == (MASK, 5, 6, MASK)
    assert (result.masks_left, result.model_calls, result.positions_fed) == (2, 1, 6)
    assert (result.committed_per_call, result.finish_reason) == ((2,), "length")
    assert result.tokens == (2, 3, MASK, 5, 6, MASK)


def test_a_template_is_committed_before_the_first_call() -> None:
    model, text = scripted(TABLE), "n = count(masked)\np = lm(everything)\ncommit p.token at top(masked, n, by: p.max)"
    result = play(text, model, template=(None, 2, MASK))
    assert result.output_ids == (4, 2, 6, 3)
    assert (result.order, result.committed_per_call) == ((1, 0, 1, 1), (3,))
    assert isinstance(model.backbone, Scripted)
    assert model.backbone.fed[0][0] == [2, 3, MASK, 2, MASK, MASK]


def test_nothing_changes_a_template() -> None:
    text = "p = lm(everything)\noverwrite p.token at everything\nmask answer"
    assert play(text, scripted(TABLE), template=(2,)).tokens[2:] == (2, MASK, MASK, MASK)
    text = "repeat {\np = lm(everything)\ncommit p.token at first(masked)\n} until eos or not any(masked)"
    assert play(text, scripted(TABLE), template=(None, EOS)).output_ids == (4, EOS)


def test_calls_are_counted_one_by_one() -> None:
    model = scripted(TABLE)
    text = "for b in blocks(answer, 2) {\np = lm(everything)\nrefresh lm(b)\np = lm(b where position < 0)\n}"
    with pytest.raises(CompileError):
        play("q = lm(masked where position < 0)\ncommit q.token at masked", model)
    result = play(text.replace("p = lm(b where position < 0)", "refresh lm(b where position < 0)"), model)
    assert (result.model_calls, result.positions_fed) == (4, 16)
    assert fed(model) == [[0, 1, 2, 3, 4, 5], [2, 3], [0, 1, 2, 3, 4, 5], [4, 5]]


def test_blocks_of_the_canvas_begin_at_position_zero() -> None:
    model = scripted(TABLE)
    play("for b in blocks(canvas, 4) {\nrefresh lm(b)\n}", model)
    assert fed(model) == [[0, 1, 2, 3], [4, 5]]
    play("for b in blocks(canvas, 2) {\nrefresh lm(b)\n}", model := scripted(TABLE))
    assert fed(model) == [[2, 3], [4, 5]]  # a block of prompt alone is not visited


def test_a_canvas_is_rounded_up_to_whole_blocks() -> None:
    model = scripted(TABLE)
    result = play("for b in blocks(canvas, 4, short: round_up) {\np = lm(b)\ncommit p.token at b\n}", model)
    assert (len(result.tokens), len(result.output_ids), len(result.order)) == (8, 4, 6)


def test_blocks_that_must_come_out_even() -> None:
    with pytest.raises(CompileError) as caught:
        play("for b in blocks(answer, 3, short: error) {\nrefresh lm(b)\n}", scripted(TABLE))
    assert caught.value.diagnostics[0].code == "uneven-blocks"


def test_blocks_inside_blocks() -> None:
    model = scripted(TABLE)
    play("for b in blocks(answer, 3) {\nfor c in blocks(b, 2) {\nrefresh lm(c)\n}\n}", model)
    assert fed(model) == [[2, 3], [4], [5]]


def test_loops_and_breaks() -> None:
    text = """
    n = 0
    for i in 3 down to 1 { n = n * 10 + i }
    for i in 5 to 4 { n = 0 }
    for i in 1 to 9 {
      break when n > 330
      n = n + 3
      if n mod 2 == 0 { n = n + 1 } else { n = n - 1 }
    }
    p = lm(everything)
    commit p.token at masked where position == n - 328
    """
    # 321 -> 325 -> 329 -> 333, and so not further
    assert play(text, scripted(TABLE)).order == (0, 0, 0, 1)


def test_state_is_reset_with_its_lifetime() -> None:
    text = """strategy s {{
      state n: int = 0 per {life}
      model lm: masked
      canvas answer = masked(length)
      for b in blocks(answer, 2) {{
        for t in 1 to 2 {{
          n = n + 1
          p = lm(everything)
          commit p.token at first(masked in b) and (everything where n <= 1)
        }}
      }}
    }}"""
    assert play(text.format(life="sequence"), scripted(TABLE)).order == (1, 0, 0, 0)
    assert play(text.format(life="block"), scripted(TABLE)).order == (1, 0, 3, 0)
    assert play(text.format(life="step"), scripted(TABLE)).order == (1, 2, 3, 4)


def test_overwrite_and_mask() -> None:
    text = """
    p = lm(everything)
    commit p.token at top(masked, 2, by: p.max)
    p = lm(everything)
    mask answer where p.max > 0.85
    overwrite p.token at everything where position == 0 or position == 5
    """
    result = play(text, scripted(TABLE | {0: {6: 1.0}}))
    assert result.tokens == (6, 3, MASK, MASK, 6, 3)
    assert (result.masks_left, result.order) == (3, (0, 2, 1, 2))  # position 5 has a token, and is masked still


# ---------------------------------------------------------------- the end of a row


def test_a_row_ends_with_an_eos_behind_committed_positions() -> None:
    table = {2: {4: 0.6}, 3: {EOS: 0.9}, 4: {6: 0.8}, 5: {3: 0.7}}
    text = "while any(masked) {\np = lm(everything)\ncommit p.token at top(masked, 1, by: p.max)\nstop on eos\n}"
    result = play(text, scripted(table))
    assert (result.output_ids, result.finish_reason) == ((4, EOS), "eos")
    assert result.order == (4, 1, 2, 3)  # the eos came first, but position 2 before it came last
    without = play(text.replace("stop on eos", ""), scripted(table))
    assert (without.output_ids, without.finish_reason) == ((4, EOS, 6, 3), "length")


def test_stop_when() -> None:
    one = "p = lm(everything)\ncommit p.token at top(masked, 1, by: p.max)"
    text = f"while any(masked) {{\n{one}\nstop when count(masked) < 3\n}}"
    result = play(text, scripted(TABLE))
    assert (result.output_ids, result.finish_reason, result.model_calls) == ((MASK, 5, 6, MASK), "stop", 2)


GREEDY = """strategy s {
  model lm: causal
  canvas answer = empty(length)
  repeat {
    p = lm(last)
    append p.token
  } until eos
}"""


def test_appending_until_the_canvas_is_full() -> None:
    model = scripted(TABLE, "causal")
    result = play(GREEDY, model, length=3)
    assert (result.output_ids, result.model_calls, result.order) == ((0, 4, 5), 3, (1, 2, 3))
    assert fed(model) == [[0, 1], [2], [3]]  # the prompt belongs to the first call
    assert (result.positions_fed, result.finish_reason) == (4, "length")


def test_appending_until_an_eos() -> None:
    result = play(GREEDY, scripted({1: {4: 0.9}, 2: {EOS: 0.9}}, "causal"), length=9)
    assert (result.output_ids, result.model_calls, result.finish_reason) == ((4, EOS), 2, "eos")
    assert result.tokens == (2, 3, 4, EOS)
    held = play(GREEDY, scripted({1: {4: 0.9}, 2: {EOS: 0.9, 6: 0.05}}, "causal"), length=3, min_length=3)
    assert held.output_ids == (4, 6, 0)


# ---------------------------------------------------------------- shifted models


def test_a_shifted_model_predicts_the_position_behind() -> None:
    shifted = scripted({i - 1: said for i, said in TABLE.items()}, shift=True)
    text = "p = lm(everything)\ncommit p.token at masked"
    assert play(text, shifted).output_ids == play(text, scripted(TABLE)).output_ids == (4, 5, 6, 3)
    assert play("p = lm(everything)\ncommit p.token at unreadable(answer)", shifted).order == (1, 0, 0, 0)


def test_choosing_what_cannot_be_read_is_an_error() -> None:
    shifted = scripted(TABLE, shift=True)
    for text in ("commit p.token at answer", "commit p.token at top(answer, 1, by: p.max)"):
        with pytest.raises(CompileError) as caught:
            play(f"p = lm(answer)\n{text}", shifted)
        assert caught.value.diagnostics[0].code == "unreadable-position"


# ---------------------------------------------------------------- draws


def test_draws_depend_on_seed_position_and_visit_alone() -> None:
    text = "for t in 1 to 3 {\np = lm(everything)\noverwrite p.token at answer\n}"
    even = scripted({i: dict.fromkeys(range(7), 1 / 7) for i in range(6)})
    first = play(text, even, temperature=1.0, seed=5)
    assert first.output_ids == play(text, even, temperature=1.0, seed=5).output_ids
    assert first.output_ids != play(text, even, temperature=1.0, seed=6).output_ids
    once = play(text.replace("3", "1"), even, temperature=1.0, seed=5)
    assert first.output_ids != once.output_ids  # another visit
    longer = play(text, even, length=6, temperature=1.0, seed=5)
    assert longer.output_ids[:4] == first.output_ids


def test_a_call_may_have_a_temperature_of_its_own() -> None:
    even = scripted({i: dict.fromkeys(range(7), 1 / 7) for i in range(6)})
    cold = play("p = lm(everything) with temperature 0.0\ncommit p.token at masked", even, temperature=1.0, seed=5)
    assert cold.output_ids == (0, 0, 0, 0)


def test_scores_are_clean_unless_a_program_says_warped() -> None:
    table = {2: {4: 0.5, 5: 0.4}, 3: {5: 0.6, 6: 0.1}, 4: {4: 1.0}, 5: {4: 1.0}}
    text = "p = lm(everything)\ncommit p.token at top(masked where position < 4, 1, by: p.{}max asc)"
    assert play(text.format(""), scripted(table), top_k=2).order == (1, 0, 0, 0)
    assert play(text.format("warped."), scripted(table), top_k=2).order == (1, 0, 0, 0)
    assert play(text.format("").replace("asc", "desc"), scripted(table), banned=(5,)).order == (0, 1, 0, 0)
    assert play(text.format("warped.").replace("asc", "desc"), scripted(table), banned=(5,)).order == (1, 0, 0, 0)


# ---------------------------------------------------------------- following another engine


FOLLOWED = "while any(masked) {\np = lm(everything)\ncommit p.token at top(masked, 1, by: p.max)\n}"


def test_following_the_same_commits_finds_nothing() -> None:
    own = play(FOLLOWED, scripted(TABLE))
    assert play(FOLLOWED, scripted(TABLE), forced=Forced(own.output_ids, own.order)).differences == ()


def test_following_other_commits_tells_the_first_difference() -> None:
    other = Forced((4, 5, 6, 3), (4, 2, 1, 3))  # position 4 before position 3
    result = play(FOLLOWED, scripted(TABLE), forced=other)
    assert (result.order, result.output_ids) == ((4, 2, 1, 3), (4, 5, 6, 3))
    (found,) = result.differences
    assert (found.call, found.own, found.other) == (1, ((3, 5),), ((4, 6),))
    assert found.gap == pytest.approx(0.1, abs=1e-6) and not found.near_tie


def test_a_narrow_decision_is_a_near_tie() -> None:
    narrow = scripted(TABLE | {4: {6: 0.90001}})
    result = play(FOLLOWED, narrow, forced=Forced((4, 5, 6, 3), (4, 1, 2, 3)))
    assert [d.near_tie for d in result.differences] == [True]
    bold = "take(masked, by: p.max desc, while: p.max >= 0.7, atleast: 1)"
    threshold = f"while any(masked) {{\np = lm(everything)\ncommit p.token at {bold}\n}}"
    result = play(threshold, scripted(TABLE | {5: {3: 0.69995}}), forced=Forced((4, 5, 6, 3), (2, 1, 1, 1)))
    assert [d.near_tie for d in result.differences] == [True]


def test_gaps_are_those_of_the_decisions() -> None:
    result = play(FOLLOWED, scripted(TABLE))
    assert result.gaps == pytest.approx((0.1, 0.1, 0.1, 0.5), abs=0.05)
