"""docs/errors.md has a section for each code that the code can give, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAKERS = {"Diagnostic", "error", "fail", "report", "warning"}
CODE = re.compile(r"[a-z]+(-[a-z]+)+")


def codes(tree: ast.Module) -> Iterator[str]:
    """The first constant arguments of what makes diagnostics; `a if c else b` gives two."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in MAKERS or name.endswith("_error") or name == "_fail":
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and CODE.fullmatch(part.value):
                    yield part.value


def test_codes_and_sections_agree() -> None:
    used: set[str] = set()
    for folder in ("dcompile", "dsl", "passes", "backends"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(codes(ast.parse(path.read_text(encoding="utf-8"))))
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## `?([a-z-]+)`?$", page, re.M)
    assert len(sections) == len(set(sections))
    assert sorted(used - set(sections)) == [], "codes without a section"
    assert sorted(set(sections) - used) == [], "sections without a code"
