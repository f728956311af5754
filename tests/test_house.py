"""The house rules that a machine can hold: packages, light imports, documented errors, nothing of this machine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("dcompile", "dsl", "passes", "backends")


def sources() -> Iterator[Path]:
    """Every module of the package, once."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if folder != "dcompile" or path.relative_to(ROOT / "dcompile").parts[0] not in FOLDERS[1:]:
                yield path


def python(code: str, *arguments: str) -> str:
    """What a fresh Python prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_list_is_the_folders() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {p.parent.relative_to(ROOT) for p in sources() if p.name == "__init__.py"}
    names = {".".join(p.parts) if p.parts[0] == "dcompile" else f"dcompile.{'.'.join(p.parts)}" for p in found}
    assert sorted(tables["packages"]) == sorted(names)


def test_every_folder_of_modules_is_a_package() -> None:
    assert [p for p in {s.parent for s in sources()} if not (p / "__init__.py").is_file()] == []


HEAVY = ("torch", "transformers", "lark", "onnx", "tvm", "networkx")
LIGHT = {
    "an app that runs artifacts": ("import dcompile; dcompile.load; import dcompile.backends.onnx.run", HEAVY),
    "the language": ("import dcompile.dsl; dcompile.dsl.load('greedy')", ("torch", "transformers", "onnx")),
    "facts of a model": ("from dcompile.models import read_facts", ("torch", "transformers", "onnx")),
    "dcompile check": ("from dcompile.cli import guarded; assert guarded() == 0", ("torch", "transformers", "onnx")),
}


@pytest.mark.parametrize("what", LIGHT)
def test_light_imports(what: str) -> None:
    code, heavy = LIGHT[what]
    printed = python(f"import sys\n{code}\nprint([m for m in {heavy} if m in sys.modules])", "check", "greedy")
    assert printed.splitlines()[-1] == "[]"


def test_code_that_lies_in_a_checkpoint_is_never_run() -> None:
    assert [p for p in sources() if re.search(r"trust_remote_code[\"']?\s*[:=](?!\s*False)", p.read_text())] == []


def committed() -> list[Path]:
    """Text files under version control; an archive of the sources has none, and then all files count."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_nothing_names_a_machine() -> None:
    places = re.compile(rb"(?<![\w.~])/(?:root|tmp|work|home)/[\w.]+")
    kinds = (".py", ".md", ".toml", ".dcs", ".lark", ".mjs", ".json", ".yml", "")
    found = [p for p in committed() if p.suffix in kinds and not p.is_symlink() and places.search(p.read_bytes())]
    assert found == []


def test_make_lists_its_targets() -> None:
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in "demo test test-all check models conformance bench".split():  # noqa: SIM905
        assert f"make {target} " in listed


def test_imports_go_down_only() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
