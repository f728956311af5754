"""Rendered messages, as golden pages: docs/errors.md itself, and tests/dsl/diagnostics for further cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dsl.literate import Example, accepted, examples, printed

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "docs/errors.md",
    ROOT / "docs/language.md",
    *sorted(Path(__file__).with_name("diagnostics").glob("*.md")),
]
CASES = [(page, example) for page in PAGES for example in examples(page)]


@pytest.mark.parametrize(("page", "example"), CASES, ids=[f"{p.stem}-{e.title}" for p, e in CASES])
def test_the_message_is_as_accepted(page: Path, example: Example, accept: bool) -> None:
    if accept:
        page.write_text(accepted(page), encoding="utf-8")
        return
    assert printed(example) == example.printed


@pytest.mark.parametrize("example", examples(ROOT / "docs/errors.md"), ids=lambda e: e.title)
def test_each_section_shows_its_own_code(example: Example) -> None:
    codes = [line.split("[")[1].split("]")[0] for line in printed(example).splitlines() if line.startswith("error[")]
    assert codes[:1] == [example.title]
