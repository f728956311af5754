"""Every ATen operation that ONNX graphs can say, and the function that says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcompile.backends.onnx import (
    arithmetic,
    attention,
    blocks,
    constants,
    group_query,
    indexing,
    logic,
    products,
    reductions,
    shapes,
    vocabulary,
)

HANDLERS: dict[Any, Callable[..., Any]] = {
    **arithmetic.OPS,
    **attention.OPS,
    **blocks.OPS,
    **constants.OPS,
    **group_query.OPS,
    **indexing.OPS,
    **logic.OPS,
    **products.OPS,
    **reductions.OPS,
    **shapes.OPS,
    **vocabulary.OPS,
}
