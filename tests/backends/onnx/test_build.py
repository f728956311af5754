"""What the onnx target writes: weights once, the same bytes again, loops that carry only what changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from dcompile.backends import weights
from dcompile.backends.onnx.build import ONNX
from dcompile.backends.onnx.run import load
from dcompile.diagnostic import CompileError
from dcompile.program import Graph, Port, modules
from dcompile.source import Source, Span
from tests.backends.harness import program_of

torch.set_num_threads(1)


class Tied(torch.nn.Module):
    """An embedding whose matrix is the head as well, and a layer used in two loops."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed = torch.nn.Parameter(torch.randn(64, 32, generator=generator))
        self.inner = torch.nn.Parameter(torch.randn(32, 32, generator=generator) / 6)
        self.bias = torch.nn.Parameter(torch.randn(32, generator=generator))


def decode(module: Tied) -> Any:
    def run(ids: Tensor, steps: Tensor, kept: Tensor) -> Any:
        def turn(i: Tensor, ids: Tensor, kept: Tensor, steps: Tensor) -> Any:
            def inner(j: Tensor, x: Tensor, i: Tensor) -> Any:
                return j + 1, torch.tanh(torch.nn.functional.linear(x, module.inner, module.bias))

            x = torch.nn.functional.embedding(ids, module.embed)
            x = torch.nn.functional.linear(x, module.inner)
            start = (torch.zeros(1, dtype=torch.int64), x)
            _, x = torch.ops.higher_order.while_loop(lambda j, x, i: (j < i).all(), inner, start, (i,))
            found = torch.nn.functional.linear(x, module.embed).argmax(-1)
            return i + 1, found, kept.clone()

        return torch.ops.higher_order.while_loop(
            lambda i, ids, kept, steps: (i < steps).all(),
            turn,
            (torch.zeros(1, dtype=torch.int64), ids, kept),
            (steps,),
        )

    return run


INPUTS = (torch.tensor([[3, 7]]), torch.tensor([3]), torch.ones(2, 5))


@pytest.fixture(scope="module")
def traced() -> fx.GraphModule:
    """The loops of `decode`, with weights named alike in every graph."""
    tied = Tied()
    module = make_fx(decode(tied), tracing_mode="fake", pre_dispatch=True, _allow_non_fake_inputs=True)(*INPUTS)
    names = {id(p): name for name, p in tied.named_parameters()}
    for inner in modules(module):
        for node in inner.graph.find_nodes(op="get_attr"):
            value = getattr(inner, str(node.target))
            if isinstance(value, torch.nn.Parameter):
                setattr(inner, names[id(value)], value)
                node.target = names[id(value)]
        inner.recompile()
    return module


def graphs_of(graph: ir.Graph) -> Iterator[ir.Graph]:
    yield graph
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from graphs_of(attribute.as_graph())


def test_nested_loops_give_what_torch_gives(traced: fx.GraphModule, tmp_path: Path) -> None:
    program = program_of(traced)
    files = ONNX().build(program, tmp_path)
    feed = {f"in_{i}": t.numpy() for i, t in enumerate(INPUTS)}
    found = load(tmp_path, files, 1).run("main", feed)
    want = traced(*INPUTS)
    for i, tensor in enumerate(want):
        assert np.array_equal(found[f"out_{i}"], tensor.detach().numpy())


def test_each_weight_is_stored_once_and_used_where_it_is_multiplied(traced: fx.GraphModule, tmp_path: Path) -> None:
    files = ONNX().build(program_of(traced), tmp_path)
    assert set(weights.read(tmp_path)) == {"embed", "inner"}  # the bias is small, and stands in the graph
    model = ir.load(tmp_path / files["main"])
    places = [
        {(v.const_value.location, v.const_value.offset) for v in g.initializers.values() if external(v)}
        for g in graphs_of(model.graph)
    ]
    assert [len(p) for p in places] == [0, 2, 1]  # ORT packs initializers of the very graph that multiplies
    assert places[2] < places[1]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 4 * (64 * 32 + 32 * 32) + 20_000


def external(value: ir.Value) -> bool:
    return isinstance(value.const_value, ir.ExternalTensor)


def test_a_loop_carries_only_what_changes(traced: fx.GraphModule, tmp_path: Path) -> None:
    files = ONNX().build(program_of(traced), tmp_path)
    graph = ir.load(tmp_path / files["main"]).graph
    (outer,) = [node for node in graph if node.op_type == "Loop"]
    assert len(outer.inputs) == 2 + 2  # trip count, condition, counter, ids: `kept` is captured


def test_the_same_program_gives_the_same_bytes(traced: fx.GraphModule, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        ONNX().build(program_of(traced), tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_an_output_may_have_the_name_of_an_input(tmp_path: Path) -> None:
    module = make_fx(lambda x, y: (x + y, y), tracing_mode="fake")(torch.ones(3), torch.ones(3))
    ports = tuple(Port(name, "float32", (3,)) for name in ("x", "y"))
    program = program_of(module)
    program = program.with_graphs((Graph("step", module, ports, ports),))
    run = load(tmp_path, ONNX().build(program, tmp_path), 1)
    state = {"x": np.zeros(3, np.float32), "y": np.ones(3, np.float32), "unknown": np.zeros(1)}
    for turn in range(3):
        state.update(run.run("step", state))
        assert state["x"].tolist() == [turn + 1.0] * 3


def test_what_onnx_cannot_say_points_at_the_line() -> None:
    module = make_fx(lambda x: torch.linalg.inv(x), tracing_mode="fake")(torch.eye(3))
    source = Source("a.dcs", "invert lm\n")
    for node in module.graph.nodes:
        node.meta["span"] = Span(0, 6, source)
    found = ONNX().missing(program_of(module))
    assert str(found[0]) == (
        "error[unsupported-op]: target `onnx` has no form for the operation `aten.linalg_inv_ex.default`\n"
        " --> a.dcs:1:1\n  |\n1 | invert lm\n  | ^^^^^^ needed here\n  |\n"
        "  = help: build for `eager` or `cpu`, which run every operation"
    )


def test_dtypes_that_onnx_cannot_say_are_told() -> None:
    module = make_fx(lambda x: x * 2, tracing_mode="fake")(torch.ones(2, dtype=torch.complex64))
    assert [d.title for d in ONNX().missing(program_of(module))] == [
        "target `onnx` has no form for tensors of dtype `complex64`"
    ]


def test_every_operation_can_be_said(traced: fx.GraphModule) -> None:
    assert ONNX().missing(program_of(traced)) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "no weights"])
def test_a_damaged_file_is_an_error_of_its_own(traced: fx.GraphModule, tmp_path: Path, damage: str) -> None:
    files = ONNX().build(program_of(traced), tmp_path)
    path = tmp_path / (weights.FILE if damage == "no weights" else files["main"])
    content = path.read_bytes()
    path.unlink()
    if damage in ("cut", "empty"):
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(CompileError) as caught:
        load(tmp_path, files, 1).run("main", {})
    assert [d.code for d in caught.value.diagnostics] == ["broken-artifact"]


def kinds(module: fx.GraphModule, folder: Path) -> Counter[str]:
    files = ONNX().build(program_of(module), folder)
    graph = ir.load(folder / files["main"]).graph
    return Counter(node.op_type for inner in graphs_of(graph) for node in inner)


def test_nothing_unused_is_written(tmp_path: Path) -> None:
    def wasteful(x: Tensor) -> Tensor:
        torch.exp(x) + 7
        return x.reshape(6).reshape(2, 3).unsqueeze(0) * 2

    module = make_fx(wasteful, tracing_mode="fake")(torch.ones(3, 2))
    assert kinds(module, tmp_path) == {"Reshape": 1, "Mul": 1}
