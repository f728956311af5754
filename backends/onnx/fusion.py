"""What a fusion is: a pattern of FX nodes that is emitted at one node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from torch import Tensor, fx

from dcompile.program import attribute


@dataclass(frozen=True)
class Fusion:
    """Emit `emit(scope, *values of args)` at a node; its results are the values of `gives`, or None if it may not."""

    emit: Callable[..., Sequence[ir.Value] | None]
    args: tuple[Any, ...]
    gives: tuple[fx.Node, ...]


@dataclass(frozen=True)
class Parameter:
    """A weight by its name; emitted wherever it is needed."""

    name: str
    tensor: Tensor


def parameter(module: fx.GraphModule, place: Any) -> Parameter | None:
    if place is None:
        return None
    tensor = attribute(module, str(place.target))
    assert isinstance(tensor, Tensor)
    return Parameter(str(place.target), tensor)
