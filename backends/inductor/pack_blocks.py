"""Matrices in blocks as the kernels of the target `cpu` want them (`blocks.py`); those that multiply one x are one.

before   linear_blocks(x, q), linear_blocks(x, k), linear_blocks(x, v)
after    one linear_packed(x, q k v), and slices of it

Of a prompt's chunk only the rows that hold something are multiplied.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from dcompile.backends.inductor.blocks import EMBED_PACKED, LINEAR_PACKED, Packed, pack
from dcompile.backends.inductor.tiles import EMBED_ROUGH, LINEAR_ROUGH, pack_tiles
from dcompile.ops import EMBED_BLOCKS, LINEAR_BLOCKS
from dcompile.passes.base import Pass
from dcompile.passes.edit import constant, emit, tidy
from dcompile.passes.facts import arguments
from dcompile.program import Program, attribute, modules

aten = torch.ops.aten
MIXING = (aten.matmul.default, aten.bmm.default)  # where these read keys and values, 0 times what is left open is not 0


@dataclass(frozen=True)
class PackBlocks(Pass):
    """Each matrix is packed once, however many graphs and loops read it."""

    name: ClassVar[str] = "pack-blocks"

    def run(self, program: Program) -> Program:
        nodes = [n for graph in program.graphs for module in modules(graph.module) for n in module.graph.nodes]
        rough = any(arguments(node)[5] for node in nodes if node.target is LINEAR_BLOCKS)
        packer = _Packer(rough, hiding=not any(node.target in MIXING for node in nodes))
        for graph in program.graphs:
            for module in list(modules(graph.module)):
                packer.module(module)
            tidy(graph.module)
        return program

    def __str__(self) -> str:
        return self.name


@dataclass
class _Packer:
    """`rough`: products may round what they multiply; an embedding reads what its product reads. `hiding`: nothing but
    attention reads keys and values, and it hides rows that hold nothing."""

    rough: bool
    hiding: bool
    made: dict[Hashable, Packed] = field(default_factory=dict)

    def module(self, module: fx.GraphModule) -> None:
        groups: dict[Hashable, list[fx.Node]] = {}
        for node in module.graph.find_nodes(op="call_function", target=LINEAR_BLOCKS):
            x, codes, _, least, bits, _ = arguments(node)
            kind = (x, bits, least is None, tuple(codes.meta["val"].shape[1:]))
            groups.setdefault(kind, []).append(node)
        for nodes in groups.values():
            self._linear(module, nodes)
        for node in module.graph.find_nodes(op="call_function", target=EMBED_BLOCKS):
            self._embed(module, node)

    def _embed(self, module: fx.GraphModule, node: fx.Node) -> None:
        *matrix, bits, index = arguments(node)
        packed = self._pack(module, [matrix], bits)
        with module.graph.inserting_before(node):
            held = self._constants(module, packed, matrix[0])
            target = EMBED_ROUGH if self.rough else EMBED_PACKED
            made = emit(module.graph, target, *held, index, *packed.form, packed.shape[1], like=node)
        _replace(node, made)

    def _linear(self, module: fx.GraphModule, nodes: list[fx.Node]) -> None:
        """One product in the place of the first, a slice of it for each."""
        matrices = [arguments(node)[1:4] for node in nodes]
        bits = arguments(nodes[0])[4]
        packed = self._pack(module, matrices, bits)
        graph, first = module.graph, nodes[0]
        with graph.inserting_before(first):
            held = self._constants(module, packed, matrices[0][0])
            columns = packed.shape[0]
            target = LINEAR_ROUGH if self.rough else LINEAR_PACKED
            live = _live(module, first) if self.hiding else []
            whole = emit(graph, target, first.args[0], *held, *packed.form, columns, live, like=first)
            whole.meta = {**first.meta, **whole.meta}
            at = 0
            for node in nodes:
                to = at + node.meta["val"].shape[-1]
                part = whole if len(nodes) == 1 else emit(graph, aten.slice.Tensor, whole, -1, at, to, like=node)
                _replace(node, part)
                at = to

    def _pack(self, module: fx.GraphModule, matrices: Sequence[Sequence[Any]], bits: int) -> Packed:
        tensors = [[_held(module, node) for node in matrix] for matrix in matrices]
        key = tuple(codes.data_ptr() for codes, *_ in tensors if codes is not None)
        if key not in self.made:
            codes, scale, least = (
                None if parts[0] is None else torch.cat([p for p in parts if p is not None])
                for parts in zip(*tensors, strict=True)
            )
            assert codes is not None and scale is not None
            self.made[key] = (pack_tiles if self.rough else pack)(codes, scale, least, bits)
        return self.made[key]

    def _constants(self, module: fx.GraphModule, packed: Packed, like: fx.Node) -> list[fx.Node]:
        named = (("packed", packed.codes), ("steps", packed.steps))
        name = f"{like.target}_{packed.shape[0]}"  # alone it is another tensor than with others
        return [constant(module, f"{name}_{part}", tensor, like) for part, tensor in named]


def _live(module: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """How many rows of a prompt's chunk hold something, where a product is of these rows."""
    shape = node.meta["val"].shape
    if node.meta.get("call") != "prefill" or len(shape) != 3 or shape[0] > 1:
        return []
    return [n for n in module.graph.nodes if n.meta.get("rows") == str(shape[1])][-1:]


def _held(module: fx.GraphModule, node: fx.Node | None) -> Tensor | None:
    if node is None:
        return None
    value = attribute(module, str(node.target))
    assert isinstance(value, Tensor)
    return value


def _replace(node: fx.Node, made: fx.Node) -> None:
    made.meta = {**node.meta, **made.meta}
    node.replace_all_uses_with(made)
