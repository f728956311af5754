"""A template goes through the command and the graphs, and the oracle agrees; a cut loop keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dcompile
from dcompile import compiler
from dcompile.commands.arguments import holes
from dcompile.reference import run
from tests.cli.command import Command

MODEL = Path(__file__).parents[1] / "conformance" / "models" / "tiny-llada"
SETTINGS = {"block": 8, "threshold": 0.8}
TEMPLATE = "9,_,_,10,11," + "_," * 8 + "12"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize(("target", "loop"), [("eager", "inside"), ("onnx", "inside"), ("onnx", "block")])
def test_a_template(target: str, loop: str, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    dcompile.build("fast_dllm_dual", MODEL, out, target, settings=SETTINGS, max_length=32, loop=loop)
    done = command(
        "run", out, "--prompt-ids", "20,21,22", "--template", TEMPLATE, "-n", 16, "--temperature", 0, "--json"
    )
    assert done.code == 0, done.err
    found = json.loads(done.out)
    strategy, template = compiler.read("fast_dllm_dual", SETTINGS), holes(TEMPLATE)
    assert template is not None and not isinstance(template, str)
    want = run(strategy, compiler.load(MODEL), [20, 21, 22], length=16, template=template)
    assert tuple(found["output_ids"]) == want.output_ids
    assert [want.output_ids[n] for n in (0, 3, 4, 13)] == [9, 10, 11, 12]
    assert (found["model_calls"], tuple(found["committed_per_call"])) == (want.model_calls, want.committed_per_call)
    assert sum(want.committed_per_call) == 12
    done = command("verify", out, "--model", MODEL, "-n", 16, "--template", TEMPLATE)
    assert done.code == 0 and "same tokens on 4 prompts" in done.out, done.err


def test_what_a_template_is() -> None:
    assert holes("1,_ 2") == (1, None, 2)
    assert holes("The answer is <mask>.") == "The answer is <mask>."
