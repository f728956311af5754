"""Modules that come as programs, ONNX or exported: by the oracle, which runs them by other means, and in the graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import dcompile
from dcompile.artifact import open_artifact
from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.source import Source
from dcompile.strategy import Strategy
from dcompile.verify import verify
from tests.lower.test_modules import TEXT, TINY
from tests.lower.test_random_programs import PROMPTS, agree
from tests.passes.rows import oracle

Shape = tuple[int | str, ...]


def graph(path: Path, *kinds: str, rows: Shape = (1, 4), dtype: type = np.float32) -> None:
    """A chain of operations over two matrices [4, 4] and a vector, as ONNX."""
    draw = np.random.default_rng(5)
    weights = {n: draw.standard_normal((4, 4) if n < "c" else 4).astype(dtype) for n in "abc"}
    nodes, at = [], "x"
    for i, kind in enumerate(kinds):
        given = [at, *{"Gemm": "bc", "MatMul": "a", "Add": "c", "Sub": "c", "Mul": "c", "Div": "c"}.get(kind, "")]
        more = {"transB": 1, "alpha": 0.5, "beta": 2.0} if kind == "Gemm" else {}
        nodes.append(helper.make_node(kind, given, [f"y{i}"], **more))
        at = f"y{i}"
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, rows) for n in ("x", at)]
    held = [numpy_helper.from_array(w, n) for n, w in weights.items()]
    made = helper.make_graph(nodes, "net", ports[:1], ports[1:], held)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())


class Net(nn.Module):
    """Two layers with a step between that no list of layers says."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 4)
        self.scale = nn.Buffer(torch.tensor([1.0, 2.0, 0.5, 1.5]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.two(nn.functional.gelu(self.one(x * self.scale)))) + 0.1


def exported(path: Path, net: nn.Module, given: Tensor, any_rows: bool = False) -> None:
    rows = ({0: torch.export.Dim("rows")},) if any_rows else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net.eval(), (given,), dynamic_shapes=rows), path)


def read(folder: Path, kind: str, block: int = 4) -> Strategy:
    return load(Source("s.dcs", TEXT.replace("BLOCK", str(block)).replace("net.safetensors", f"net.{kind}"), folder))


MAKERS: dict[str, Callable[[Path], None]] = {
    "onnx": lambda path: graph(path, "Gemm", "Relu", "MatMul", "Add", "Tanh"),
    "onnx of any rows": lambda path: graph(path, "MatMul", "Sub", "Sigmoid", "Mul", "Identity", rows=("n", 4)),
    "onnx of one row": lambda path: graph(path, "MatMul", "Div", "Sub", rows=(4,)),
    "pt2": lambda path: exported(path, Net(), torch.zeros(1, 4)),
    "pt2 of any rows": lambda path: exported(path, Net(), torch.zeros(2, 4), any_rows=True),
    "pt2 of a vector": lambda path: exported(path, Net(), torch.zeros(4)),
}


@pytest.mark.parametrize("word", [pytest.param(w, marks=pytest.mark.slow if " of " in w else []) for w in MAKERS])
def test_as_the_oracle(word: str, tmp_path: Path) -> None:
    kind = word.split()[0]
    MAKERS[word](tmp_path / f"net.{kind}")
    for block in (4, 3):
        agree(read(tmp_path, kind, block))


def test_the_network_decides(tmp_path: Path) -> None:
    """A network that is always sure commits a block at once."""
    graph(tmp_path / "net.onnx", "Sigmoid")
    assert [r.calls for r in oracle(read(tmp_path, "onnx"), PROMPTS, 6)] == [2, 2]
    graph(tmp_path / "net.onnx", "MatMul", "Mul")
    assert [r.calls for r in oracle(read(tmp_path, "onnx"), PROMPTS, 6)] != [2, 2]


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_an_artifact_has_its_network_with_it(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path / f"net.{kind}")
    text = TEXT.replace("BLOCK", "4").replace("net.safetensors", f"net.{kind}")
    (tmp_path / "s.dcs").write_text(text, encoding="utf-8")
    dcompile.build(tmp_path / "s.dcs", TINY, tmp_path / "out", max_length=48, rng=False)
    assert f"modules/net.{kind}" in open_artifact(tmp_path / "out").manifest.files
    (tmp_path / f"net.{kind}").unlink()
    outcomes = list(verify(tmp_path / "out", TINY, [[5, 6, 7], [8, 9, 10, 11]], max_new_tokens=14))
    assert [o.verdict for o in outcomes] == ["same", "same"]
    with pytest.raises(CompileError, match="missing-module"):
        dcompile.build(tmp_path / "s.dcs", TINY, tmp_path / "two", max_length=48)


def refused(folder: Path, kind: str, words: str) -> None:
    with pytest.raises(CompileError, match=words) as caught:
        read(folder, kind)
    assert "error[wrong-module]" in str(caught.value) and "s.dcs:3:3" in str(caught.value)


def test_an_operation_that_is_not_known(tmp_path: Path) -> None:
    graph(tmp_path / "net.onnx", "MatMul", "Softmax")
    refused(tmp_path, "onnx", "has the operation `Softmax`, and known are Add, Div, Gemm")


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    graph(tmp_path / "net.onnx", "Relu", rows=(2, 4))
    refused(tmp_path, "onnx", r"is declared 4 -> 4, its file takes \[2, 4\] and gives \[2, 4\]")
    exported(tmp_path / "net.pt2", nn.Linear(4, 3), torch.zeros(2, 4), any_rows=True)
    refused(tmp_path, "pt2", r"is declared 4 -> 4, its file takes \[any, 4\] and gives \[any, 3\]")


def test_files_that_are_none(tmp_path: Path) -> None:
    for kind, words in (("onnx", "is no ONNX model"), ("pt2", "is no program of torch.export")):
        (tmp_path / f"net.{kind}").write_bytes(b"not a network at all")
        refused(tmp_path, kind, words)


def test_weights_that_are_no_float32(tmp_path: Path) -> None:
    graph(tmp_path / "net.onnx", "MatMul", dtype=np.float16)
    refused(tmp_path, "onnx", "holds `a` as float16")
    exported(tmp_path / "net.pt2", nn.Linear(4, 4).double(), torch.zeros(1, 4, dtype=torch.float64))
    refused(tmp_path, "pt2", "holds `weight` as float64")


def test_weights_in_another_file(tmp_path: Path) -> None:
    graph(tmp_path / "net.onnx", "MatMul")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    refused(tmp_path, "onnx", "keeps `a` in another file")
