"""One copy of each constant: attributes of equal bytes become the same tensor, in every graph."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from dcompile.passes.base import Pass
from dcompile.program import Program, modules


@dataclass(frozen=True)
class ShareWeights(Pass):
    name: ClassVar[str] = "share-weights"

    def run(self, program: Program) -> Program:
        first: dict[tuple[Any, ...], Tensor] = {}
        for graph in program.graphs:
            for module in modules(graph.module):
                for node in module.graph.nodes:
                    if node.op == "get_attr":
                        _share(module, str(node.target), first)
        return program


def _share(module: fx.GraphModule, name: str, first: dict[tuple[Any, ...], Tensor]) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    value = getattr(owner, leaf)
    if isinstance(value, Tensor):
        same = first.setdefault(_key(value), value)
        if same is not value and torch.equal(same, value):
            setattr(owner, leaf, same)


def _key(value: Tensor) -> tuple[Any, ...]:
    """Shape, dtype and bytes; of a large tensor a sample, so that hashing stays cheap: whoever asks compares."""
    flat = value.detach().reshape(-1)
    sample = flat if flat.numel() <= 65536 else torch.cat([flat[:4096], flat[-4096:], flat[:: flat.numel() // 4096]])
    digest = hashlib.sha256(sample.contiguous().view(torch.uint8).numpy().tobytes()).digest()
    return tuple(value.shape), value.dtype, digest
