"""What recognisers of patterns in FX graphs ask of a node."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

COPIES = frozenset({aten.to.dtype, aten._to_copy.default, aten.clone.default, aten.alias.default})


def called(node: Any, *targets: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets


def shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def is_float32(node: fx.Node) -> bool:
    return bool(node.meta["val"].dtype == torch.float32)


def behind(node: Any) -> Any:
    """The node behind casts that do not change the dtype."""
    while called(node, *COPIES) and node.meta["val"].dtype == node.args[0].meta["val"].dtype:
        node = node.args[0]
    return node


def factors(node: Any) -> list[tuple[Any, Any]]:
    """Both readings of a product."""
    if not called(node, aten.mul.Tensor):
        return []
    a, b = behind(node.args[0]), behind(node.args[1])
    return [(a, b), (b, a)]
