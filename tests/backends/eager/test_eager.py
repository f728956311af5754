"""The interpreter: what it checks, and what its artifacts keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from dcompile.backends import weights
from dcompile.backends.eager.build import Eager
from dcompile.backends.eager.run import interpret, load
from dcompile.diagnostic import CompileError
from tests.backends.harness import program_of

torch.set_num_threads(1)

X = torch.linspace(-1, 1, 6).reshape(2, 3)


def test_check_names_the_node_that_differs_from_its_fake() -> None:
    module = make_fx(lambda x: (x * 2).sum(-1), tracing_mode="fake")(X)
    assert torch.equal(interpret(module, X, check=True)[0], (X * 2).sum(-1))
    node = module.graph.find_nodes(op="call_function", target=torch.ops.aten.sum.dim_IntList)[0]
    node.meta["val"] = node.meta["val"].to(torch.float64)
    with pytest.raises(AssertionError, match=r"sum_1.*float64"):
        interpret(module, X, check=True)
    assert interpret(module, X)[0].dtype == torch.float32


def test_weights_are_stored_once_and_apart(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.arange(512.0).reshape(16, 32) / 512)
    trace = make_fx(lambda x: x @ weight @ weight.t(), tracing_mode="fake", _allow_non_fake_inputs=True)
    x = torch.ones(2, 16)
    program = program_of(trace(x))
    files = Eager().build(program, tmp_path)
    assert len(weights.read(tmp_path)) == 1
    found = load(tmp_path, files).run("main", {"in_0": x.numpy(), "unknown": x.numpy()})
    assert torch.equal(torch.from_numpy(found["out_0"]), (x @ weight @ weight.t()).detach())


@pytest.mark.parametrize(
    ("old", "new"),
    [("aten.mul.Tensor", "aten.nothing.Tensor"), ("aten.mul.Tensor", "builtins.eval"), ('"nodes"', '"n"'), ("{", "[")],
)
def test_a_damaged_file_is_an_error_of_its_own(tmp_path: Path, old: str, new: str) -> None:
    program = program_of(make_fx(lambda x: x * 2, tracing_mode="fake")(X))
    files = Eager().build(program, tmp_path)
    path = tmp_path / files["main"]
    json.loads(path.read_text())
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CompileError) as caught:
        load(tmp_path, files).run("main", {"in_0": X.numpy()})
    assert [d.code for d in caught.value.diagnostics] == ["broken-artifact"]
