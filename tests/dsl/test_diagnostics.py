"""Rendered messages, as golden pages: docs/errors.md itself, and tests/dsl/diagnostics for further cases."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.source import Source
from tests.dsl.literate import Example, accepted, examples, printed
from tests.test_errors_page import codes

ROOT = Path(__file__).parents[2]
ERRORS = ROOT / "docs/errors.md"
PAGES = [ERRORS, ROOT / "docs/language.md", *sorted(Path(__file__).with_name("diagnostics").glob("*.md"))]
CASES = [(page, example) for page in PAGES for example in examples(page)]
REWRITTEN: set[Path] = set()


@pytest.mark.parametrize(("page", "example"), CASES, ids=[f"{p.stem}-{e.title}" for p, e in CASES])
def test_the_message_is_as_accepted(page: Path, example: Example, accept: bool) -> None:
    if not accept:
        assert printed(example) == example.printed
    elif page not in REWRITTEN:
        REWRITTEN.add(page)
        page.write_text(accepted(page), encoding="utf-8")


@pytest.mark.parametrize("example", examples(ERRORS), ids=lambda e: e.title)
def test_each_section_shows_its_own_code(example: Example) -> None:
    assert re.findall(r"^error\[([a-z-]+)\]", printed(example), re.M)[:1] == [example.title]


UNWRITTEN = {"too-deep", "unknown-strategy"}  # no page can show these: below


def test_every_code_of_the_language_has_its_text_in_a_page() -> None:
    files = (ROOT / "dsl").glob("*.py")
    used = {code for path in files for code in codes(ast.parse(path.read_text(encoding="utf-8")))}
    shown = {code for _, example in CASES for code in re.findall(r"^error\[([a-z-]+)\]", example.printed, re.M)}
    assert len(used) > 50
    assert used - shown == UNWRITTEN


def rendered(text: str) -> str:
    """The message on a text that has a mistake."""
    with pytest.raises(CompileError) as caught:
        load(Source("s.dcs", text))
    return str(caught.value)


def test_a_text_that_is_nested_too_deeply() -> None:
    text = "strategy s { model lm: causal; canvas answer = empty(length); x = " + "(-" * 2000 + "1" + ")" * 2000 + "}"
    assert rendered(text).startswith("error[too-deep]: the text is nested too deeply\n --> s.dcs:1:1\n")


def test_a_program_that_grows_too_large() -> None:
    lets = "\n".join(f"x{i + 1} = x{i} + x{i}" for i in range(40))
    text = f"strategy s {{\nmodel lm: causal\ncanvas answer = empty(length)\nrule f(x0) {{\n{lets}\nreturn x40\n}}\n"
    assert rendered(text + "y = f(length)\n}") == (
        "error[too-deep]: the program is too large once its rules are put in\n"
        " --> s.dcs:1:10\n"
        "  |\n"
        "1 | strategy s {\n"
        "  |          ^\n"
        "  |\n"
        "  = help: rules are inlined: assign the parts that are used often to variables"
    )


def test_a_strategy_that_the_library_does_not_have() -> None:
    with pytest.raises(CompileError) as caught:
        load("fast_dlm_dual")
    assert str(caught.value) == (
        "error[unknown-strategy]: the standard library has no `fast_dlm_dual`\n  = help: did you mean `fast_dllm_dual`?"
    )


def test_windows_line_ends_do_not_shift_carets() -> None:
    text = "strategy s {\r\n  model lm: causal\r\n  canvas answer = empty(length)\r\n  x =\r\n}\r\n"
    assert " --> s.dcs:4:6\n" in rendered(text)
    assert "4 |   x =\n  |      ^ expected a value" in rendered(text)
