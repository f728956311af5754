"""`--machine` through the commands: refused where it means nothing, and told where the code is another machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

import dcompile
from dcompile.artifact import Artifact as Opened
from dcompile.artifact import Machine, open_artifact, rewrite
from dcompile.backends import processors
from tests.cli import checkpoint
from tests.cli.command import Command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.write(tmp_path_factory.mktemp("model"), layers=1)


def test_only_tvm_compiles_for_other_machines(model: Path, command: Command, tmp_path: Path) -> None:
    done = command("build", "greedy", "-m", model, "-t", "onnx", "--machine", "aarch64-linux-gnu", "-o", tmp_path / "a")
    assert done.code == 1
    assert done.err == (
        "error[unknown-machine]: target `onnx` compiles for no other machine\n  = help: choose the target `tvm`\n"
    )
    done = command(
        "build", "greedy", "-m", model, "-t", "tvm", "--loop", "step", "--machine", "arm", "-o", tmp_path / "a"
    )
    assert done.code == 1
    assert "the target `tvm` cannot compile for `arm`" in done.err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("doing", ["run", "verify"])
def test_another_machines_artifact_is_not_opened(
    doing: str, model: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "architecture", lambda: "x86_64")
    dcompile.build("greedy", model, tmp_path / "a", "eager", max_length=64)
    made = open_artifact(tmp_path / "a")
    arm = Machine(triple="aarch64-linux-gnu", cpu="generic", features=("neon",))
    rewrite(Opened(made.folder, made.manifest.model_copy(update={"machine": arm})))
    done = command(doing, tmp_path / "a", *(("--prompt", "hi") if doing == "run" else ()))
    assert done.code == 1
    assert done.err == (
        "error[other-machine]: the artifact is compiled for aarch64-linux-gnu, and this machine is x86_64\n"
        "  = help: run it on aarch64, or build it here without --machine\n"
    )
