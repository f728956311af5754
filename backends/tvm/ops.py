"""Conversions of ATen ops to Relax where TVM's own importer has none, or another meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from tvm import relax

aten = torch.ops.aten
Convert = Callable[[Any, fx.Node], Any]


def order(importer: Any, node: fx.Node) -> Any:
    """TVM sorts on the CPU with std::stable_sort: ties keep their order, and -0 equals 0."""
    key = importer.env[node.args[0]]
    return importer.block_builder.emit(relax.op.argsort(key, axis=-1, descending=True, dtype="int64"))


CONVERT: Mapping[Any, Convert] = {
    torch.ops.dcompile.order.default: order,
}
