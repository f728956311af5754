"""The commands that need no model, and what bad input gets from any of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dcompile import cli
from dcompile.commands import check as check_command
from dcompile.dsl import library
from dcompile.version import VERSION
from tests.cli.command import Command

GREEDY = """\
strategy mine {
  model lm: causal
  canvas answer = empty(length)
  repeat {
    p = lm(last)
    append p.token
  } until eos
}
"""


def test_version_and_help(command: Command) -> None:
    assert command("--version").out == f"{VERSION}\n"
    assert "check" in command("--help").out
    assert command().code == 2


def test_check_reports(command: Command) -> None:
    done = command("check", "greedy")
    assert done.code == 0
    assert "losslessness: proved" in done.out


def test_check_json(command: Command) -> None:
    found = json.loads(command("check", "fast_dllm_dual", "--json").out)
    assert found["strategy"] == "fast_dllm_dual"
    assert found["cache"]["verdict"] == "approximate"


def test_check_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.dcs").write_text(GREEDY.replace("p.token", "p.tokne"))
    done = command("check", tmp_path / "mine.dcs")
    assert done.code == 1
    assert f"--> {tmp_path / 'mine.dcs'}:6:" in done.err
    assert "did you mean `token`?" in done.err
    found = json.loads(command("check", tmp_path / "mine.dcs", "--json").out)
    assert found["diagnostics"][0]["line"] == 6


def test_set_a_parameter(command: Command) -> None:
    shown = command("show", "llada", "--set", "block=8", "--set", "guidance=1.5")
    assert "param block: int = 8" in shown.out
    assert "param guidance: float = 1.5" in shown.out
    assert command("show", "llada", "--set", "block").code == 2
    assert command("show", "llada", "--set", "blok=8").code == 1


def test_format(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.dcs"
    file.write_text(GREEDY.replace("  ", " "))
    assert command("format", "--check", file).code == 1
    assert command("format", file).code == 0
    assert file.read_text() == GREEDY
    assert command("format", "--check", file).code == 0


def test_strategies(command: Command) -> None:
    listed = command("strategies").out.splitlines()
    assert any(line.startswith("greedy ") and "one token a call" in line for line in listed)


def test_the_page_of_strategies_is_up_to_date(command: Command) -> None:
    page = Path(__file__).parents[2] / "docs" / "strategies.md"
    assert command("strategies", "--markdown").out == page.read_text(encoding="utf-8")


def test_every_strategy_says_what_it_needs_and_what_it_was_checked_against() -> None:
    assert [e.name for e in library.entries() if not (e.words and e.training and e.checked)] == []


def test_doctor(command: Command) -> None:
    assert json.loads(command("doctor", "--json").out)["targets"]["eager"]["build"] == "ready"
    assert "pip install" in command("doctor").out or "ready" in command("doctor").out


BAD = [
    (1, "unreadable-strategy", ["check", "none.dcs"]),
    (1, "unknown-strategy", ["check", "gredy"]),
    (1, "unknown-checkpoint", ["check", "greedy", "--model", "nowhere"]),
    (1, "unknown-checkpoint", ["build", "greedy", "--model", "nowhere", "-o", "out"]),
    (1, "unknown-target", ["build", "greedy", "--model", "nowhere", "-o", "out", "--target", "onx"]),
    (1, "unknown-loop", ["build", "greedy", "--model", "nowhere", "-o", "out", "--loop", "outside"]),
    (1, "unknown-loop", ["build", "greedy", "--model", "nowhere", "-o", "out", "--target", "tvm", "--loop", "inside"]),
    (1, "unknown-precision", ["build", "greedy", "--model", "nowhere", "-o", "out", "--quantize", "int3"]),
    (1, "not-an-artifact", ["run", "none", "--prompt", "x"]),
    (1, "not-an-artifact", ["verify", "none"]),
    (1, "not-a-token-id", ["run", "none", "--prompt-ids", "1,x"]),
    (1, "output-exists", ["build", "greedy", "--model", "nowhere", "-o", "."]),
    (1, "output-exists", ["build", "greedy", "--model", "nowhere", "-o", ".", "--force"]),
    (1, "unreadable-prompts", ["verify", "none", "--prompts", "none.txt"]),
    (2, "one of --prompt", ["run", "none"]),
    (2, "one of --prompt", ["run", "none", "--prompt", "x", "--chat", "y"]),
    (2, "--system needs --chat", ["run", "none", "--prompt", "x", "--system", "y"]),
    (2, "no such command", ["biuld"]),
    (2, "no such option", ["check", "greedy", "--max-lenght", "3"]),
    (2, "--model", ["show", "greedy", "--stage", "program"]),
    (2, "--batch", ["build", "greedy", "--model", "nowhere", "-o", "out", "--batch", "0"]),
]


@pytest.mark.parametrize(("code", "words", "arguments"), BAD, ids=lambda x: str(x).replace("/", ""))
def test_bad_input(
    code: int, words: str, arguments: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").touch()
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert done.code == code
    assert words in done.err.lower()
    assert "Traceback" not in done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]


def test_a_bug_of_ours(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("it broke")

    monkeypatch.setattr(check_command, "settings", broken)
    done = command("check", "greedy")
    assert done.code == cli.BUG
    assert done.err.startswith("dcompile: a bug of ours: AssertionError: it broke")
    monkeypatch.setenv("DCOMPILE_DEBUG", "1")
    assert "Traceback" in command("check", "greedy").err


def test_colour_only_where_it_is_wanted(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in command("check", "gredy").err
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in command("check", "gredy").err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in command("check", "gredy").err


def test_only_the_runtime_is_installed() -> None:
    code = (
        "import sys\nclass Gone:\n  def find_spec(self, name, *_):\n"
        "    if name.split('.')[0] in ('lark', 'torch', 'transformers'):\n"
        "      raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Gone())\nfrom dcompile.cli import main\nmain()"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, "check", "greedy"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error[missing-package]: compiling needs the package `lark`\n  = help: pip install 'dcompile[build]'\n"
    )
