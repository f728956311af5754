"""The op suite on TVM: every case a function of one library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcompile.backends.tvm.build import TVM
from dcompile.backends.tvm.run import Executable, load
from dcompile.program import COND, WHILE
from tests.backends.harness import program_of
from tests.backends.op_cases import CASES
from tests.backends.test_ops import differs, traced

FAST = [  # what lowered programs are made of
    "add_number",
    "sub_int",
    "mul_number",
    "div_int",
    "floor_divide",
    "floor_divide_number",
    "remainder_number",
    "rotate",
    "uniform",
    "and_tensor_big",
    "where_number",
    "masked_fill",
    "clamp_int",
    "eq_int",
    "invert_bool",
    "bitwise_and_bool",
    "to_int",
    "to_float",
    "sum_bool",
    "any_dim",
    "all_all",
    "max_dim",
    "argmax_ties",
    "leading_trues",
    "cumsum",
    "softmax",
    "softmax_masked_row",
    "order",
    "order_zeros",
    "order_masked",
    "matmul_4d",
    "linear_3d",
    "rms_norm",
    "attend",
    "attend_parts",
    "attend_one_query",
    "gather",
    "scatter",
    "scatter_bool",
    "scatter_4d",
    "index_rows",
    "index_pairs",
    "index_put_pair",
    "compare_and_sum",
    "reshape",
    "expand",
    "permute",
    "cat",
    "slice",
    "roll_back",
    "arange",
    "full",
    "result_twice",
    "embedding",
]
NOT_MADE = {  # decompositions of torch for its own CPU kernels; the lowering keeps the composite forms
    "layer_norm": "aten.native_layer_norm.default",
    "sdpa": "aten._scaled_dot_product_flash_attention_for_cpu.default",
    "sdpa_mask": "aten._scaled_dot_product_flash_attention_for_cpu.default",
}


def is_loop(case: str) -> bool:
    return any(n.target in (WHILE, COND) for n in traced(case, True)[0].graph.nodes)


STRAIGHT = [case for case in CASES if not is_loop(case)]


def build(folder: Path, cases: list[str], composite: bool) -> Executable:
    graphs = [program_of(traced(case, composite)[0], case).graphs[0] for case in cases]
    program = program_of(traced(cases[0], composite)[0]).with_graphs(tuple(graphs))
    assert not TVM().missing(program)
    return load(folder, TVM().build(program, folder), threads=1)


def compare(executable: Executable, case: str, composite: bool) -> None:
    found = executable.run(case, {f"in_{i}": x.numpy() for i, x in enumerate(CASES[case][1])})
    want = traced(case, composite)[1]
    assert len(found) == len(want)
    for i, tensor in enumerate(want):
        assert (why := differs(torch.from_numpy(found[f"out_{i}"].copy()), tensor)) is None, why


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Executable:
    return build(tmp_path_factory.mktemp("tvm"), FAST, True)


@pytest.fixture(scope="module", params=[True, False], ids=["composite", "decomposed"])
def every(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Executable]:
    cases = [c for c in STRAIGHT if request.param or c not in NOT_MADE]
    return request.param, build(tmp_path_factory.mktemp("tvm"), cases, request.param)


@pytest.mark.parametrize("case", FAST)
def test_operation_of_lowered_programs(fast: Executable, case: str) -> None:
    compare(fast, case, True)


@pytest.mark.slow
@pytest.mark.parametrize("case", STRAIGHT)
def test_operation(every: tuple[bool, Executable], case: str) -> None:
    composite, executable = every
    if composite or case not in NOT_MADE:
        compare(executable, case, composite)
    else:
        (gap,) = TVM().missing(program_of(traced(case, composite)[0]))
        assert gap.code == "unsupported-op" and NOT_MADE[case] in gap.title


@pytest.mark.parametrize("case", [c for c in CASES if c not in STRAIGHT])
def test_loops_are_for_the_host(case: str) -> None:
    (gap,) = TVM().missing(program_of(traced(case, True)[0]))
    assert gap.code == "loop-not-supported" and "--loop step" in str(gap.help)
