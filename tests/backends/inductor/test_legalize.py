"""The rewrites before AOTInductor change no result, and leave the graph they were given alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx

from dcompile.backends.eager.run import interpret
from dcompile.backends.inductor.legalize import legalize
from dcompile.backends.inductor.move import move
from dcompile.program import Graph, modules
from dcompile.record import Recorder
from tests.backends import toys

torch.set_num_threads(1)
aten = torch.ops.aten


@pytest.fixture
def graph() -> Graph:
    return toys.graph("main", toys.unmasking, toys.weights())


def reads(module: fx.GraphModule) -> list[str]:
    """The names of the tensors that inner graphs read for themselves."""
    inner = [m for m in modules(module) if m is not module]
    found = [(n, m) for m in inner for n in m.graph.find_nodes(op="get_attr")]
    return [
        n.target
        for n, m in found
        if isinstance(m.get_parameter(n.target) if "." in n.target else getattr(m, n.target), Tensor)
    ]


def test_the_result_stays(graph: Graph) -> None:
    canvas, limit = torch.zeros(toys.ROWS, toys.SLOTS, dtype=torch.int64), torch.tensor([9, 4])
    canvas[0, :5] = 3
    before, text = interpret(graph.module, canvas, limit), str(graph.module.graph)
    for a, b in zip(before, interpret(legalize(graph.module), canvas, limit), strict=True):
        assert torch.equal(a, b)
    assert str(graph.module.graph) == text
    assert before[1].tolist() == [7, 4], "the rows stop on their own"


def test_bodies_read_no_weights(graph: Graph) -> None:
    assert "model.head" in reads(graph.module)
    legal = legalize(graph.module)
    assert reads(legal) == []
    names = dict(legal.named_parameters(remove_duplicate=False))
    assert sorted(names) == ["model.embed", "model.head", "model.layers.0.weight"], "each once, under its own name"


def test_no_operand_is_handed_back_or_given_twice(graph: Graph) -> None:
    for module in modules(legalize(graph.module)):
        results = module.graph.output_node().args[0]
        listed = [results] if isinstance(results, fx.Node) else list(results)
        assert len(set(listed)) == len(listed)
        for node in module.graph.nodes:
            if node.target is torch.ops.higher_order.while_loop:
                operands = [*node.args[2], *node.args[3]]
                assert len(set(operands)) == len(operands)


def test_a_weight_of_two_names_is_given_once() -> None:
    """Once from outside, in another shape, and once from inside a loop."""
    one, two = torch.ones(3), torch.ones(3)
    recorder = Recorder({"one": one, "two": two})
    with recorder.recording():
        n = recorder.input("n", (1,), torch.int64)
        outside = one.reshape(1, 3)
        end = recorder.loop({"n": n}, lambda v: v["n"] < 3, lambda v: {"n": v["n"] + (outside + two).sum().long()})
        module = recorder.finish([end["n"]])
    for inner in modules(module):
        if hasattr(inner, "two"):
            inner.two = one  # type: ignore[assignment]
    (loop,) = legalize(module).graph.find_nodes(op="call_function", target=torch.ops.higher_order.while_loop)
    first, second = loop.args[3]  # type: ignore[misc]
    assert aten.clone.default in (first.target, second.target)  # type: ignore[union-attr]


def test_a_condition_of_one_element_becomes_a_scalar() -> None:
    def count(recorder: object, w: dict[str, Tensor]) -> list[Tensor]:
        n = recorder.input("n", (1,), torch.int64)  # type: ignore[attr-defined]
        end = recorder.loop({"n": n}, lambda v: v["n"] < 3, lambda v: {"n": v["n"] + 1})  # type: ignore[attr-defined]
        same = recorder.branch(end["n"] > 7, lambda: [n + 1], lambda: [n])  # type: ignore[attr-defined]
        return [end["n"], same[0]]

    legal = legalize(toys.graph("main", count, {}).module)
    assert [t.item() for t in legal(torch.tensor([1]))] == [3, 1], "torch itself runs it"


def test_everything_moves_to_the_device() -> None:
    """On `meta`, which has no data, an operation left behind on the CPU could not meet the others."""
    weights = toys.weights()
    graph = toys.graph("main", toys.step, weights)
    moved = legalize(graph.module)
    move(moved, "meta")
    inputs = [torch.empty(p.shape, dtype=getattr(torch, p.dtype), device="meta") for p in graph.inputs]
    assert {t.device.type for t in interpret(moved, *inputs)} == {"meta"}
    assert {t.device.type for t in interpret(graph.module, *[torch.zeros(i.shape, dtype=i.dtype) for i in inputs])} == {
        "cpu"
    }
    for inner in modules(legalize(toys.graph("main", toys.unmasking, weights).module)):
        move(inner, "meta")
        made = [
            n for n in inner.graph.nodes if n.target in (aten.arange.default, aten.zeros.default, aten.ones.default)
        ]
        assert all(n.kwargs["device"].type == "meta" for n in made)
