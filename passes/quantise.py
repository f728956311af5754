"""Matrices in blocks: linear layers and embeddings whose weights are known so read the codes (`--quantize`).

It is no pass of the pipeline, since it changes the model: the compiler puts it in front of what the backend needs, with
the blocks of a model whose float weights mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from dcompile.models.blocks import Blocks
from dcompile.ops import EMBED_BLOCKS, LINEAR_BLOCKS
from dcompile.passes.base import Pass
from dcompile.passes.edit import constant, emit, tidy
from dcompile.passes.facts import arguments
from dcompile.program import Program, attribute, modules

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Quantise(Pass):
    """`blocks`: the matrices by the address of their float form. `rough`: activations may be rounded to eight bits."""

    name: ClassVar[str] = "quantise"
    blocks: Mapping[int, Blocks]
    rough: bool = False

    def __str__(self) -> str:
        return f"{self.name}{{rough={self.rough}}}"

    def run(self, program: Program) -> Program:
        for graph in program.graphs:
            for module in list(modules(graph.module)):
                for node in list(module.graph.nodes):
                    if node.target in (aten.linear.default, aten.embedding.default):
                        weight = arguments(node)[0 if node.target is aten.embedding.default else 1]
                        _rewrite(module, node, weight, self.blocks.get(_address(module, weight)), self.rough)
            tidy(graph.module)
        return program


def _rewrite(module: fx.GraphModule, node: fx.Node, weight: fx.Node, blocks: Blocks | None, rough: bool) -> None:
    """What the blocks give, and the bias, in the place of a layer or an embedding."""
    if blocks is None or tuple(weight.meta["val"].shape) != blocks.shape:
        return
    graph, args = module.graph, arguments(node)
    with graph.inserting_before(node):
        tensors = [
            None if tensor is None else constant(module, f"{weight.target}_{part}", tensor, weight)
            for part, tensor in _named(blocks)
        ]
        if node.target is aten.embedding.default:
            made = emit(graph, EMBED_BLOCKS, *tensors, blocks.bits, args[1], like=node)
        else:
            made = emit(graph, LINEAR_BLOCKS, args[0], *tensors, blocks.bits, rough, like=node)
        made.meta = {**node.meta, **made.meta}
        if node.target is aten.linear.default and len(args) > 2 and args[2] is not None:
            made = emit(graph, aten.add.Tensor, made, args[2], like=node)
            made.meta = {**node.meta, **made.meta}
    node.replace_all_uses_with(made)


def _named(part: Blocks) -> list[tuple[str, Tensor | None]]:
    return [("codes", part.codes), ("scale", part.scale), ("least", part.least)]


def _address(module: fx.GraphModule, weight: fx.Node) -> int:
    """Where the weight that a node reads lies; 0 where it is none."""
    value = attribute(module, str(weight.target)) if weight.op == "get_attr" else None
    return value.data_ptr() if isinstance(value, Tensor) else 0
