"""Small functions and their inputs, by name: what the op suite runs on every backend. Any order of results counts."""

from __future__ import annotations

from tests.backends.op_cases import control, elementwise, folds, indices, products, shapes
from tests.backends.op_cases.inputs import Case

PARTS = (elementwise.CASES, folds.CASES, products.CASES, shapes.CASES, indices.CASES, control.CASES)
CASES: dict[str, Case] = {name: case for part in PARTS for name, case in part.items()}
assert len(CASES) == sum(map(len, PARTS)), "two cases have one name"

# What a tracer may hand over as one operation or as several: these run in both forms.
COMPOSITE = [
    *("silu", "gelu", "pow_2", "clamp_min", "where_number", "masked_fill", "div_floor", "floor_divide_number"),
    *("softmax", "softmax_dtype", "log_softmax", "argmax_all", "any_all", "order", "sort_values", "topk_values"),
    *("matmul_batched", "matmul_by_matrix", "matmul_4d", "matmul_vector", "linear", "linear_3d", "linear_3d_plain"),
    *("layer_norm", "rms_norm", "attend_parts", "sdpa", "sdpa_mask", "reshape", "expand", "chunk", "roll_back"),
    *("shifted", "pad_bool", "repeat_interleave", "unbind", "to_int", "type_as", "embedding", "index_put_middle"),
    *("gather", "scatter_value", "while_loop", "while_nested", "cond"),
]
