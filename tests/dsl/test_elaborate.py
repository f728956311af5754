"""What programs mean: the Strategy that comes out of a text."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dcompile.diagnostic import CompileError
from dcompile.dsl import STANDARD, load
from dcompile.dsl.declare import Setting
from dcompile.source import Source
from dcompile.strategy import (
    BOOL,
    FLOAT,
    INT,
    Accept,
    Area,
    Assign,
    Call,
    Ended,
    Expr,
    ForBlocks,
    If,
    Literal,
    Name,
    Op,
    Repeat,
    Running,
    Score,
    Strategy,
    Take,
    Unreadable,
    While,
    Write,
    walk,
)


def made(body: str, head: str = "", model: str = "masked", settings: Mapping[str, Setting] | None = None) -> Strategy:
    """A strategy with some lines as its body."""
    canvas = "empty" if model == "causal" else "masked"
    text = f"strategy s {{\n{head}\nmodel lm: {model}\ncanvas answer = {canvas}(length)\n{body}\n}}"
    return load(Source("s.dcs", text), settings)


def value(text: str, head: str = "") -> Expr:
    """What `x = text` assigns, where `p` was fed everything."""
    last = made(f"p = lm(everything)\nx = {text}", head).body[-1]
    assert isinstance(last, Assign)
    return last.value


def test_greedy() -> None:
    match load("greedy").body:
        case (
            Repeat(body=(Call(name="p", feed=Area(name="last"), keep=None, site=0), Write() as write), until=Ended()),
        ):
            assert (write.action, write.region) == ("append", None)
            assert isinstance(write.tokens, Score) and (write.tokens.dist, write.tokens.kind) == ("p", "token")
        case body:
            pytest.fail(str(body))


def test_each_call_has_a_name_of_its_own_and_is_numbered() -> None:
    strategy = load("fast_dllm_dual")
    calls = [n for n in walk(strategy.body) if isinstance(n, Call)]
    assert [(c.name, c.site) for c in calls] == [("p", 0), ("p_2", 1)]
    loop = strategy.body[0]
    assert isinstance(loop, ForBlocks)
    inner = next(n for n in loop.body if isinstance(n, While))
    assert {n.dist for n in walk(inner) if isinstance(n, Score)} == {"p_2"}


@pytest.mark.parametrize("path", sorted(STANDARD.glob("*.dcs")), ids=lambda p: p.stem)
def test_the_standard_library_elaborates(path: object) -> None:
    name = path.stem  # type: ignore[attr-defined]
    strategy = load(name)
    assert strategy.name == name
    assert strategy.text.startswith("# ")
    assert any(isinstance(n, (Write, Accept)) for n in walk(strategy.body))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("7 // 2 + 7 mod 2", 4),
        ("-3 + 1", -2),
        ("1 / 4", 0.25),
        ("floor(2.5) + ceil(2.5)", 5),
        ("min(2, 3) + max(2, 3.5)", 5.5),
        ("1 if 2 > 1 else 0", 1),
        ("not 1 == 1 or true", True),
        ("0.1 + 0.2", 0.30000001192092896),
        ("abs(-2)", 2),
        ("sqrt(16) + cos(0.0) + exp(0) + log(1.0)", 6.0),
    ],
)
def test_known_values_are_computed_at_the_build(text: str, expected: object) -> None:
    found = value(text)
    assert isinstance(found, Literal)
    assert found.value == expected
    assert type(found.value) is type(expected)


@pytest.mark.parametrize("text", ["1 / 0", "1 // 0", "1 mod 0", "log(0.0)", "sqrt(-1.0)", "exp(1e9)", "3e38 * 10"])
def test_what_cannot_be_computed_is_left_to_the_run(text: str) -> None:
    assert isinstance(value(text), Op)


def test_types_of_values() -> None:
    assert value("length + 1").type == INT
    assert value("length + 1.5").type == FLOAT
    assert value("eos").type == BOOL
    assert str(value("p.max > 0.5").type) == "region"
    assert str(value("p.max + position").type) == "float per position"
    assert str(value("token == token(3)").type) == "region"
    assert value("mean(p.max in masked)").type == FLOAT
    assert value("sum(position in masked)").type == INT


def test_scores() -> None:
    found = value("p.without(hidden).prob(p.token)", "param hidden: tokens = [7, 9]")
    assert isinstance(found, Score)
    assert (found.kind, found.without, found.warped) == ("prob", (7, 9), False)
    assert isinstance(found.of, Score) and found.of.kind == "token"
    warped = value("p.warped.without([3, 3, 4]).entropy")
    assert isinstance(warped, Score)
    assert (warped.kind, warped.without, warped.warped) == ("entropy", (3, 4), True)


def test_take_and_top() -> None:
    take = value("take(masked, by: p.entropy, while: sum(p.max) - p.max < count, atleast: 1, per: blocks(4))")
    assert isinstance(take, Take)
    assert (take.descending, take.per, take.per_size) == (False, "blocks", Literal(INT, take.span, 4))
    assert [n.kind for n in walk(take.predicate) if isinstance(n, Running)] == ["sum", "count"]
    top = value("top(masked, 2, by: p.max)")
    assert isinstance(top, Take)
    assert (top.descending, top.predicate, top.atleast, top.atmost) == (True, None, None, Literal(INT, top.span, 2))
    first = value("take(masked, atmost: 1)")
    assert isinstance(first, Take) and first.key is None and not first.descending
    named = value("take(masked, by: position desc, atmost: 1)")
    assert isinstance(named, Take) and named.key is not None and named.descending


def test_rules_are_put_in() -> None:
    rule = "rule best(q, R, n = 2) {\n half = n // 2\n return top(R, half, by: q.max) or first(R)\n}"
    same = value("top(masked, 3, by: p.max) or first(masked)")
    assert value("best(p, masked, n: 6)", rule) == same
    assert value("best(p, R: masked, n: 6)", rule) == same


def test_a_rule_sees_declarations_and_not_the_names_of_its_user() -> None:
    assert value("f(2)", "param n = 3\nrule f(m) {\n return n * m\n}") == value("6")
    with pytest.raises(CompileError, match="pass `p` as an argument"):
        value("f(2)", "rule f(m) {\n return count(masked where p.max > 0.5)\n}")


def test_an_action_evaluates_its_arguments_first() -> None:
    action = "action twice(p, R) {\n commit p.token at top(R, 1, by: p.max)\n commit p.token at R\n}"
    body = made("p = lm(everything)\ntwice(p, masked)", action).body
    assert isinstance(body[1], Assign) and body[1].value == Area(body[1].value.type, body[1].span, "masked")
    assert isinstance(body[3], Write) and body[3].region == Name(body[1].value.type, body[3].span, body[1].name)


def test_names_in_actions_do_not_touch_the_users_names() -> None:
    action = "action count_up(k) {\n n = k + 1\n total = total + n\n}"
    body = made("n = 5\ncount_up(n)\nm = n", "state total: int = 0\n" + action).body
    names = [s.name for s in body if isinstance(s, Assign)]
    assert names == ["n", "k", "n_2", "total", "m"]
    last = body[-1]
    assert isinstance(last, Assign) and last.value == Name(INT, last.span, "n")


# ---------------------------------------------------------------- statements


def test_conditions_known_at_the_build_keep_one_side() -> None:
    body = made("if n > 2 { x = 1 } else { x = 2 }", "param n = 3").body
    assert len(body) == 1 and isinstance(body[0], Assign)
    assert isinstance(made("if length > 2 { x = 1 } else { x = 2 }").body[0], If)


def test_blocks_rounded_up_make_the_canvas_longer() -> None:
    loop = "for b in blocks(canvas, {}, short: round_up) {{\n p = lm(b)\n commit p.token at masked in b\n}}"
    canvas = made(loop.format(4) + "\n" + loop.format(6)).canvas
    assert (canvas.multiple, canvas.multiple_from) == (12, "canvas")


def test_no_guidance_is_no_guidance() -> None:
    calls = [n for n in walk(load("llada").body) if isinstance(n, Call)]
    assert [c.guidance for c in calls] == [None]
    guided = [n.guidance for n in walk(load("llada", {"guidance": 0.5}).body) if isinstance(n, Call)]
    assert guided == [Literal(FLOAT, calls[0].span, 0.5)]


def test_a_row_value_for_a_state_per_position_is_spread() -> None:
    body = made("seen = 1.5", "state seen: float[canvas] = 0").body
    assert isinstance(body[0], Assign) and body[0].value.type.each


def test_unreadable_names_its_model() -> None:
    found = value("unreadable(masked)")
    assert isinstance(found, Unreadable) and found.model == "lm"


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ("param n = 3", 5, 5),
        ("param n = 3", "5", 5),
        ("param n = 3.0", 5, 5.0),
        ("param n = 3.0", "0.25", 0.25),
        ("param n: float = 3", "7", 7.0),
        ("param n = true", "false", False),
        ("param n: tokens = []", "1, 2", (1, 2)),
        ("param n: tokens = [4]", "[1]", (1,)),
        ("param n = [4]", [8, 9], (8, 9)),
        ("param n = 3 in 1..8", 8, 8),
    ],
)
def test_settings(declared: str, given: Setting, expected: object) -> None:
    param = made("x = 1", declared, settings={"n": given}).params[0]
    assert param.value == expected
    assert type(param.value) is type(expected)


@pytest.mark.parametrize(
    ("declared", "given", "code"),
    [
        ("param n = 3", "many", "wrong-setting"),
        ("param n = 3", 1.5, "wrong-setting"),
        ("param n = 3", True, "wrong-setting"),
        ("param n = true", 1, "wrong-setting"),
        ("param n = true", "yes", "wrong-setting"),
        ("param n = 1.0", "inf", "wrong-setting"),
        ("param n = 1.0", "nan", "wrong-setting"),
        ("param n: tokens = []", "[-1]", "wrong-setting"),
        ("param n = 3 in 1..8", 9, "out-of-range"),
        ("param m = 3", 9, "unknown-parameter"),
    ],
)
def test_settings_that_are_refused(declared: str, given: Setting, code: str) -> None:
    with pytest.raises(CompileError) as caught:
        made("x = 1", declared, settings={"n": given})
    assert [d.code for d in caught.value.diagnostics] == [code]


def test_all_mistakes_of_a_file_are_told() -> None:
    with pytest.raises(CompileError) as caught:
        made("a = b\nc = a\nd = nothing(3)\nbreak\ne = masked + 1")
    assert [d.code for d in caught.value.diagnostics] == [
        "unknown-name",
        "unknown-function",
        "misplaced-break",
        "wrong-type",
    ]
