"""The Node example gives the tokens that the session gives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import dcompile
from tests.cli import checkpoint

NODE = Path(__file__).parents[2] / "examples/node"


LISTS = Path(__file__).parents[2] / "examples/list_tasks/checkpoint"


@pytest.mark.parametrize("name", ["greedy", "fast_dllm_dual"])
def test_node_runs_an_artifact(name: str, tmp_path: Path) -> None:
    if shutil.which("node") is None or not (NODE / "node_modules/onnxruntime-node").is_dir():
        pytest.skip("needs node and onnxruntime-node: `make node`")
    model = checkpoint.write(tmp_path / "model") if name == "greedy" else LISTS
    dcompile.build(name, model, tmp_path / "artifact", max_length=64)
    wanted = dcompile.load(tmp_path / "artifact").generate([5, 6, 7], max_new_tokens=12, temperature=0).output_ids
    command = ["node", str(NODE / "run.mjs"), str(tmp_path / "artifact"), "5,6,7", "12"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert printed.strip() == ",".join(map(str, wanted))


def test_the_example_is_short() -> None:
    assert len((NODE / "run.mjs").read_text().splitlines()) <= 30
