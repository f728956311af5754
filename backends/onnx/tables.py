"""Every ATen operation that ONNX graphs can say, and the function that says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcompile.backends.onnx import (
    appending,
    arithmetic,
    attention,
    blocks,
    constants,
    indexing,
    logic,
    products,
    reductions,
    shapes,
    vocabulary,
)

HANDLERS: dict[Any, Callable[..., Any]] = {
    **appending.OPS,
    **arithmetic.OPS,
    **attention.OPS,
    **blocks.OPS,
    **constants.OPS,
    **indexing.OPS,
    **logic.OPS,
    **products.OPS,
    **reductions.OPS,
    **shapes.OPS,
    **vocabulary.OPS,
}
