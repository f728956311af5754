"""What the recorder makes by hand: fake values like those that torch would make."""

from __future__ import annotations

import torch

from dcompile.passes.edit import prune
from dcompile.record import Recorder, constant


def test_a_constant_has_views_whatever_was_made_before_it() -> None:
    recorder = Recorder({})
    with recorder.recording():
        same_form = recorder.fresh(torch.zeros((1, 3), dtype=torch.int64))
        assert same_form.is_inference()
        assert (constant([[4, 5, 6]]).expand(2, -1) + 1).shape == (2, 3)


def test_a_graph_that_is_inlined_is_the_graph() -> None:
    def work(x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
        left, right = torch.ops.aten.split.Tensor(torch.nn.functional.linear(x, w), 2, 1)
        return [left.transpose(0, 1) * 2, torch.cat([right, left], 1)]

    weight = torch.randn(4, 3)
    graphs = []
    for again in (False, True):
        recorder = Recorder({"w": weight})
        with recorder.recording():
            x = recorder.input("x", (5, 3), torch.float32)
            outputs = recorder.inline(graphs[0], [x]) if again else work(x, weight)
            graphs.append(recorder.finish(outputs))
    for module in graphs:
        prune(module.graph)
    first, second = ([(n.op, n.name, str(n.target), str(n.args)) for n in g.graph.nodes] for g in graphs)
    assert first == second
    shapes = [[(v.shape, v.stride()) for n in g.graph.nodes if (v := n.meta.get("val")) is not None
               and isinstance(v, torch.Tensor)] for g in graphs]  # fmt: skip
    assert shapes[0] == shapes[1]
