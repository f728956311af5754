"""Verdicts: which loops end, which caches are exact, which strategies are lossless, what memory they take."""

from __future__ import annotations

import json

import pytest

from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.dsl.checker import check_model, report
from dcompile.dsl.shapes import pretty
from dcompile.source import Source
from tests.dsl.literate import facts


def program(body: str, model: str = "masked", head: str = "") -> Source:
    """A strategy with some lines as its body."""
    canvas = "empty" if model == "causal" else "masked"
    return Source("s.dcs", f"strategy s {{\n{head}\nmodel lm: {model}\ncanvas answer = {canvas}(length)\n{body}\n}}")


def codes(source: Source) -> list[str]:
    """The codes of the mistakes of a program."""
    try:
        load(source)
    except CompileError as e:
        return [d.code for d in e.diagnostics]
    return []


# ---------------------------------------------------------------- progress

ENDS = [
    "while any(masked) {\n p = lm(everything)\n commit p.token at top(masked, 1, by: p.max)\n}",
    "while count(masked) > 0 {\n p = lm(everything)\n commit p.token at first(masked)\n}",
    "repeat {\n p = lm(everything)\n commit p.token at masked where p.max > 2 or masked\n} until not any(masked)",
    "repeat {\n p = lm(everything)\n commit p.token at top(masked, 1)\n} until count(masked) == 0 or eos",
    "repeat {\n break when not any(masked)\n p = lm(everything)\n commit p.token at first(masked)\n} until eos",
    "while any(masked) and not eos {\n p = lm(everything)\n R = masked where p.max > 0.5\n"
    " commit p.token at R or first(masked)\n}",
    "while any(masked) {\n p = lm(everything)\n todo = masked\n commit p.token at take(todo, by: p.max, atmost: 1)\n}",
    "t = 0\nwhile t < length {\n t = t + 1\n}",
    "t = 9\nwhile t > 0 {\n t = t - 1\n}",
    "for b in blocks(answer, 4) {\n while any(masked in b) {\n p = lm(b)\n"
    " if length > 3 { commit p.token at masked in b } else { commit p.token at first(masked in b) }\n }\n}",
    "while any(masked) {\n while any(masked) {\n p = lm(everything)\n commit p.token at masked\n }\n}",
    "repeat {\n x = 1\n} until true",
]
MAY_NOT_END = [
    "while any(masked) {\n p = lm(everything)\n commit p.token at masked where p.max > 0.9\n}",
    "while any(masked) {\n p = lm(everything)\n commit p.token at top(masked, count(prompt) - 3, by: p.max)\n}",
    "while any(masked) {\n p = lm(everything)\n commit p.token at top(answer, 1, by: p.max)\n}",
    "while any(masked) {\n p = lm(everything)\n if eos { commit p.token at masked }\n}",
    "while any(masked) {\n p = lm(everything)\n overwrite p.token at masked\n}",
    "while any(masked) {\n p = lm(everything)\n commit p.token at first(masked)\n mask first(answer)\n}",
    "todo = masked\nwhile any(masked) {\n p = lm(everything)\n commit p.token at take(todo, by: p.max, atmost: 1)\n}",
    "t = 0\nwhile t < length {\n t = t - 1\n}",
    "t = 0\nwhile t < length {\n if eos { t = t + 1 }\n}",
    "t = 0\nn = 1\nwhile t < n {\n t = t + 1\n n = n + 1\n}",
    "for b in blocks(answer, 4) {\n while any(masked) {\n p = lm(b)\n commit p.token at first(masked in b)\n }\n}",
    "repeat {\n p = lm(everything)\n commit p.token at first(masked)\n} until eos",
    "while true {\n x = 1\n}",
]


@pytest.mark.parametrize("body", ENDS)
def test_loops_that_end(body: str) -> None:
    strategy = load(program(body))
    assert all(f.verdict == "ends" for f in report(strategy).progress)


@pytest.mark.parametrize("body", MAY_NOT_END)
def test_loops_that_may_not_end(body: str) -> None:
    assert codes(program(body)) == ["no-progress"]


@pytest.mark.parametrize(("until", "found"), [("} until eos", []), ("} until false", [])])
def test_appending_ends(until: str, found: list[str]) -> None:
    assert codes(program(f"repeat {{\n p = lm(last)\n append p.token\n{until}", "causal")) == found


# ---------------------------------------------------------------- readability

BLOCKS = "for b in blocks(answer, 4) {\n"


@pytest.mark.parametrize(
    "body",
    [
        "p = lm(b)\n commit p.token at masked in b\n}",
        "p = lm(from(b))\n commit p.token at masked in b\n}",
        "p = lm(dilate(b, 2))\n commit p.token at first(masked in b)\n}",
        "p = lm(b or before(b))\n commit p.token at masked in b\n}",
        "p = lm(b)\n x = count(b where p.max > 0.5)\n}",
        "p = lm(b)\n x = p.max if b else 0.0\n}",
        "for s in blocks(b, 2) {\n p = lm(b)\n commit p.token at masked in s\n }\n}",
        "w = b or before(b)\n p = lm(w)\n commit p.token at masked in b\n}",
    ],
)
def test_reading_what_was_fed(body: str) -> None:
    assert codes(program(BLOCKS + body)) == []


@pytest.mark.parametrize(
    "body",
    [
        "p = lm(b)\n commit p.token at masked\n}",
        "p = lm(b)\n x = p.max\n}",
        "p = lm(b)\n x = mean(p.max in answer)\n}",
        "p = lm(first(b))\n commit p.token at masked in b\n}",
        "for s in blocks(b, 2) {\n p = lm(s)\n commit p.token at masked in b\n }\n}",
        "p = lm(b)\n commit p.token at dilate(first(b), 3)\n}",
        "p = lm(b)\n x = any(p.max > 0.5)\n}",
        "p = lm(b)\n commit p.token at after(b)\n}",
        "p = lm(b)\n commit p.token at unreadable(after(prompt))\n}",
        "p = lm(masked in b)\n commit p.token at masked in b\n p = lm(masked)\n"
        " commit p.token at unreadable(after(masked))\n}",
    ],
)
def test_reading_what_was_not_fed(body: str) -> None:
    assert codes(program(BLOCKS + body)) == ["unfed-position"]


def test_appending_twice_from_one_call() -> None:
    body = "repeat {\n p = lm(last)\n append p.token\n append p.token\n} until eos"
    assert codes(program(body, "causal")) == ["unfed-position"]
    assert codes(program(body.replace(" append", " p = lm(last)\n append"), "causal")) == []


@pytest.mark.parametrize(
    ("body", "readable"),
    [
        ("p = lm(b)\n commit p.token at masked in b\n}", False),
        ("p = lm(from(b))\n commit p.token at masked in b\n}", False),
        ("p = lm(everything)\n commit p.token at masked in b\n}", True),
        ("p = lm(before(b) or b)\n commit p.token at masked in b\n}", True),
        ("p = lm(b)\n commit p.token at masked in b and not unreadable(b)\n}", True),
        ("p = lm(b)\n commit p.token at top(masked in b and not first(b), 1, by: p.max)\n}", True),
        ("p = lm(from(b))\n commit p.token at masked in b and not unreadable(b)\n}", True),
        ("p = lm(b)\n commit p.token at masked in b and not first(masked)\n}", False),
        ("p = lm(b)\n commit p.token at unreadable(after(b))\n}", True),
        (
            "p = lm(b)\n R = masked in b and not unreadable(b)\n commit p.token at first(R) or unreadable(after(b))\n}",
            True,
        ),
        ("p = lm(b)\n commit p.token at unreadable(after(b)) or masked in b\n}", False),
    ],
)
def test_shifted_models(body: str, readable: bool) -> None:
    strategy = load(program(BLOCKS + body))
    assert check_model(strategy, facts("full")) == []
    assert [d.code for d in check_model(strategy, facts("shift"))] == ([] if readable else ["unreadable-position"])


@pytest.mark.parametrize(
    "name", ["fast_dllm_none", "fast_dllm_prefix", "fast_dllm_dual", "freedave_static", "dream", "llada"]
)
def test_the_standard_library_serves_shifted_models_too(name: str) -> None:
    assert check_model(load(name), facts("shift")) == []


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("name", "cache", "lossless"),
    [
        ("greedy", "exact", "proved"),
        ("sampled", "exact", "proved"),
        ("llada", "exact", "lossy"),
        ("fast_dllm_none", "exact", "lossy"),
        ("fast_dllm_prefix", "approximate", "lossy"),
        ("fast_dllm_dual", "approximate", "lossy"),
        ("sdar", "exact", "lossy"),
        ("fast_dllm_v2", "exact", "lossy"),
        ("dream", "exact", "lossy"),
    ],
)
def test_verdicts_on_the_standard_library(name: str, cache: str, lossless: str) -> None:
    found = report(load(name))
    assert (found.cache.verdict, found.lossless.verdict) == (cache, lossless)
    assert (found.cache.line > 0) == (cache == "approximate")
    assert (found.lossless.line > 0) == (lossless == "lossy")


SDAR = """refresh lm(whole(prompt, 4))
for b in blocks(canvas, 4, short: round_up) {
while any(masked in b) {
p = lm(b) keep none
commit p.token at top(masked in b, 1, by: p.max)
}
refresh lm(b)
}"""


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("", "", "exact"),
        (" keep none", "", "exact"),
        ("refresh lm(b)\n", "", "approximate"),
        ("refresh lm(b)\n", "refresh lm(b) keep none\n", "approximate"),
        ("refresh lm(whole(prompt, 4))", "", "approximate"),
        ("whole(prompt, 4)", "whole(prompt, 2)", "approximate"),
        ("canvas, 4", "canvas, 8", "approximate"),
        ("canvas, 4", "answer, 4", "approximate"),
        ("refresh lm(b)\n", "refresh lm(b)\nmask first(b)\n", "approximate"),
        ("refresh lm(b)\n", "p = lm(b)\ncommit p.token at unreadable(after(b))\n", "exact"),
        ("refresh lm(b)\n", "p = lm(b) keep none\ncommit p.token at unreadable(after(b))\n", "approximate"),
        (
            "refresh lm(b)\n",
            "p = lm(b)\ncommit p.token at unreadable(after(b))\ncommit p.token at first(b)\n",
            "approximate",
        ),
        ("lm(b) keep none", "lm(masked in b) keep none", "approximate"),
    ],
)
def test_block_causal_caches(old: str, new: str, verdict: str) -> None:
    body = SDAR.replace(old, new) if old else SDAR
    found = report(load(program(body, "block_causal(4)")))
    assert found.cache.verdict == verdict
    assert found.lossless.verdict == ("proved" if verdict == "exact" else "lossy")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("p = lm(last) with temperature 0.5\n append p.token", "temperature"),
        ("p = lm(last)\n append token(3)", "not the model's own"),
        ("p = lm(last) keep none\n append p.token", "approximate"),
        ("p = lm(last)\n append p.token\n overwrite p.token at first(answer)", "overwrite"),
    ],
)
def test_lossy_autoregression(body: str, reason: str) -> None:
    source = program(f"repeat {{\n {body}\n}} until eos", "causal", "require lossless")
    if "overwrite" in body:
        source = Source("s.dcs", source.text.replace("lm(last)", "lm(everything)"))
    with pytest.raises(CompileError) as caught:
        load(source)
    (found,) = caught.value.diagnostics
    assert found.code == "not-lossless"
    assert found.primary is not None and reason in found.primary.text


@pytest.mark.parametrize(
    ("names", "written", "verdict"),
    [
        ("", "q.token", "lossy"),
        ("x = q.token", "x", "lossy"),
        ("x = q.token\n y = x", "y", "lossy"),
        ("x = p.token\n y = x", "y", "proved"),
    ],
)
def test_the_token_of_another_model_is_that_through_any_names(names: str, written: str, verdict: str) -> None:
    calls = "p = lm(everything)\n q = small(everything)"
    first = f"commit {written} at take(masked, by: position asc, atmost: 1)"
    source = program(f"while any(masked) {{\n {calls}\n {names}\n {first}\n}}")
    found = report(load(Source("s.dcs", source.text.replace("canvas answer", "model small: masked\ncanvas answer"))))
    assert found.lossless.verdict == verdict


# ---------------------------------------------------------------- the report


def test_memory_counts_cache_canvas_and_state() -> None:
    head = "state seen: float[canvas] = 0.0\nstate n: int = 0"
    strategy = load(program("p = lm(everything)\ncommit p.token at masked", head=head))
    model = facts("full")
    found = dict(report(strategy, model, 1000, batch=2).memory)
    assert found["keys and values"] == 2 * model.layers * model.kv_heads * model.head_dim * 1000 * 2 * 4
    assert found["canvas (token, status)"] == 2 * 1000 * 9
    assert found["state seen: float per position"] == 2 * 1000 * 4
    assert found["state n: int"] == 2 * 8
    assert found["total"] == sum(n for name, n in found.items() if name != "total")


def test_the_report_is_text_and_json() -> None:
    found = report(load("sdar"), facts("causal"), 512)
    plain = json.loads(json.dumps(found.json()))
    assert plain["strategy"] == "sdar"
    assert [d["code"] for d in plain["diagnostics"]] == ["no-mask-token", "attention-mismatch"]
    text = str(found)
    assert "cache: exact" in text
    assert "error[no-mask-token]" in text
    assert "p = lm(b) keep none: 4 positions" in text


def test_bytes_in_words() -> None:
    assert [pretty(n) for n in (0, 1023, 1024, 3 * 1024**2 // 2, 2**40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 MiB",
        "1.0 TiB",
    ]


def test_the_mask_token_needs_a_model_with_one() -> None:
    body = "repeat {\n p = lm(last)\n break when any(last where p.token == mask_token)\n append p.token\n} until eos"
    found = check_model(load(program(body, "causal")), facts("causal"))
    assert [d.code for d in found] == ["no-mask-token"]
