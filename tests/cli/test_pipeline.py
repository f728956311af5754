"""From a strategy and a checkpoint to tokens, through the commands: build, run, verify."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dcompile
from dcompile import whereabouts
from dcompile.artifact import open_artifact
from tests.cli import checkpoint
from tests.cli.command import Command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.write(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=["inside", "block", "step"])
def artifact(model: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    path = tmp_path_factory.mktemp("artifacts") / request.param
    dcompile.build("greedy", model, path, max_length=64, loop=request.param)
    return path


@pytest.fixture(autouse=True)
def interrupt_stays() -> object:
    """`run` leaves Ctrl-C to the system where the loop is inside."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_run(artifact: Path, command: Command) -> None:
    plain = command("run", artifact, "--prompt", "hello", "-n", 8)
    assert plain.code == 0, plain.err
    found = json.loads(command("run", artifact, "--prompt", "hello", "-n", 8, "--json").out)
    assert list(found) == [
        "prompt_ids", "output_ids", "text", "seed", "model_calls", "batch_calls", "positions_fed", "committed_per_call",
        "seconds", "finish_reason",
    ]  # fmt: skip
    assert found["text"] + "\n" == plain.out
    assert found["model_calls"] == found["batch_calls"] == len(found["output_ids"])
    assert found["committed_per_call"] == [1] * len(found["output_ids"])
    assert found["positions_fed"] == len("hello") + len(found["output_ids"]) - 1


def test_prompts_of_every_kind(artifact: Path, command: Command) -> None:
    ids = [json.loads(command("run", artifact, *a, "-n", 2, "--json").out)["prompt_ids"] for a in (
        ("--prompt", "hi"), ("--prompt-ids", "5,6"), ("--chat", "hi", "--system", "be")
    )]  # fmt: skip
    session = dcompile.load(artifact)
    assert ids[0] == list(session.encode("hi"))
    assert ids[1] == [5, 6]
    assert ids[2] == list(session.encode("system: be\nuser: hi\nassistant:"))


def test_the_python_example(artifact: Path) -> None:
    script = Path(__file__).parents[2] / "examples/python/embed.py"
    done = subprocess.run([sys.executable, script, artifact, "hello"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model calls, ended by" in done.stdout


def test_verify(artifact: Path, command: Command) -> None:
    done = command("verify", artifact, "-n", 8)
    assert (done.code, done.out.splitlines()[-1]) == (0, "same tokens on 4 prompts"), done.err
    note = open_artifact(artifact).manifest.verification
    assert note is not None and (note.prompts, note.same) == (4, 4)
    sampled = command("verify", artifact, "-n", 8, "--temperature", 1, "--seed", 5)
    assert sampled.out.splitlines()[-1] == "same tokens on 4 prompts"


def test_sampling_by_seed(artifact: Path) -> None:
    session = dcompile.load(artifact)
    one, two, three = (session.generate("hello", max_new_tokens=16, temperature=1.5, seed=s) for s in (1, 1, 2))
    assert one.output_ids == two.output_ids != three.output_ids


def test_verify_tells_a_wrong_artifact(model: Path, command: Command, tmp_path: Path) -> None:
    """Weights of another training under the name of the first: the oracle disagrees."""
    import torch
    from transformers import LlamaForCausalLM

    other = checkpoint.write(tmp_path / "other")
    changed = LlamaForCausalLM.from_pretrained(other)
    with torch.no_grad():
        changed.model.embed_tokens.weight.mul_(-1)
    changed.save_pretrained(other)
    built = dcompile.build("greedy", other, tmp_path / "artifact", max_length=64)
    assert command("verify", built.folder, "--model", model).code == 1  # another fingerprint
    facts = json.loads((built.folder / "manifest.json").read_text())
    facts["model"]["fingerprint"] = dcompile.compiler.load(model).facts.fingerprint
    (built.folder / "manifest.json").write_text(json.dumps(facts))
    done = command("verify", built.folder, "--model", model, "-n", 8)
    assert done.code == 1
    assert "different: first difference at answer token" in done.out


def test_build_says_its_stages(model: Path, command: Command, tmp_path: Path) -> None:
    arguments = ["build", "greedy", "-m", model, "-o", tmp_path / "a", "--max-length", 64, "--dump", tmp_path / "dump"]
    done = command(*arguments)
    assert done.code == 0, done.err
    assert "lower" in done.err and "nodes" in done.err and "emit/onnx" in done.err
    assert sorted((tmp_path / "dump").iterdir())[0].name == "00-lower.txt"
    assert command(*arguments).code == 1
    first = (tmp_path / "a/manifest.json").read_bytes()
    assert command(*arguments, "--force").code == 0
    assert (tmp_path / "a/manifest.json").read_bytes() == first


def test_build_says_where_its_time_went(model: Path, command: Command, tmp_path: Path) -> None:
    arguments = ["build", "greedy", "-m", model, "--max-length", 64, "--profile"]
    shown = command(*arguments, "-o", tmp_path / "a").out
    for part in ("total", "model", "lower", "loops/capture-cache", "emit/onnx", "checksums"):
        assert part in shown
    found = json.loads(command(*arguments, "-o", tmp_path / "b", "--json").out)
    assert (found["graphs"], found["folder"]) == (["main"], str(tmp_path / "b"))
    spent = found["profile"]
    known = ["imports", "check", "model", "lower", "passes", "emit/onnx", "keeping"]
    assert [p["name"] for p in spent["parts"]] == known
    inside = sum(p["seconds"] for p in spent["parts"])
    assert 0.8 * spent["seconds"] <= inside <= 1.01 * spent["seconds"]


def test_no_sampling(model: Path, command: Command, tmp_path: Path) -> None:
    assert command("build", "greedy", "-m", model, "-o", tmp_path / "a", "--max-length", 64, "--no-sampling").code == 0
    assert command("run", tmp_path / "a", "--prompt", "x", "-n", 2).code == 0
    assert "no-generator" in command("run", tmp_path / "a", "--prompt", "x", "-n", 2, "--temperature", 1).err


def test_show(model: Path, command: Command) -> None:
    shown = command("show", "greedy", "-m", model, "--stage", "program", "--max-length", 64).out
    assert "while(tokens=" in shown and "# line" in shown
    wrong = command("show", "greedy", "-m", model, "--stage", "progam", "--max-length", 64)
    assert "did you mean `program`?" in wrong.err


def test_leaving_out_passes(model: Path, command: Command, tmp_path: Path) -> None:
    arguments = ["build", "greedy", "-m", model, "-o", tmp_path / "a", "--max-length", 64]
    assert "did you mean `hoist`?" in command(*arguments, "--without", "hoits").err
    done = command(*arguments, "--without", "hoist", "--limit", 3)
    assert "loops/hoist" not in done.err and "canonical/share-weights" in done.err
    assert command("verify", tmp_path / "a", "-n", 4).code == 0


def test_a_model_without_a_mask(model: Path, command: Command, tmp_path: Path) -> None:
    done = command("build", "llada", "-m", model, "-o", tmp_path / "a")
    assert done.code == 1
    assert "error[no-mask-token]" in done.err and "std/llada.dcs" in done.err
    assert not (tmp_path / "a").exists()


def test_longer_than_the_model(model: Path, command: Command, tmp_path: Path) -> None:
    done = command("build", "greedy", "-m", model, "-o", tmp_path / "a", "--max-length", 129)
    assert (done.code, "option-out-of-range" in done.err) == (1, True)


def test_a_forgotten_model(artifact: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts, "recall", lambda _: None)
    assert "say where it is with --model" in command("verify", artifact).err
