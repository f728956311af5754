"""Linear layers in bfloat16 (`--quantize bfloat16`): weights, what they multiply and what comes out have eight bits,
the sums within are float32. Half the bytes, and products that processors and GPUs have units for.

Products with a row for each token of the vocabulary stay as they are: logits of eight bits would be equal too often.
Like `quantise` it is no pass of the pipeline: the model's weights are rounded before (`dcompile/models/rounding.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from dcompile.passes.base import Pass
from dcompile.passes.edit import constant, emit, tidy
from dcompile.passes.facts import arguments
from dcompile.program import Program, attribute, modules

aten = torch.ops.aten


@dataclass(frozen=True)
class Halve(Pass):
    """`heads`: how many rows the matrices have that are left alone."""

    name: ClassVar[str] = "halve"
    heads: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return self.name

    def run(self, program: Program) -> Program:
        made: dict[int, Tensor] = {}
        for graph in program.graphs:
            for module in list(modules(graph.module)):
                for node in module.graph.find_nodes(op="call_function", target=aten.linear.default):
                    weight = arguments(node)[1]
                    if weight.op == "get_attr" and weight.meta["val"].shape[0] not in self.heads:
                        _rewrite(module, node, weight, made)
            tidy(graph.module)
        return program


def _rewrite(module: fx.GraphModule, node: fx.Node, weight: fx.Node, made: dict[int, Tensor]) -> None:
    held = attribute(module, str(weight.target))
    assert isinstance(held, Tensor)
    half = made.setdefault(held.data_ptr(), held.detach().to(torch.bfloat16))
    x, *bias = (arguments(node)[0], *arguments(node)[2:])
    with module.graph.inserting_before(node):
        place = constant(module, f"{weight.target}_half", half, weight)
        rounded = emit(module.graph, aten.to.dtype, x, torch.bfloat16, like=node)
        product = emit(module.graph, aten.linear.default, rounded, place, like=node)
        out = emit(module.graph, aten.to.dtype, product, torch.float32, like=node)
        if bias and bias[0] is not None:
            out = emit(module.graph, aten.add.Tensor, out, bias[0], like=node)
    out.meta = {**node.meta, **out.meta}
    node.replace_all_uses_with(out)
