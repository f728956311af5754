"""Each operation means the same on every backend: small functions, traced, run, compared with plain torch."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from tests.backends.harness import BACKENDS
from tests.backends.op_cases import CASES, COMPOSITE

torch.set_num_threads(1)


def outputs(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


def differs(have: Tensor, want: Tensor) -> str | None:
    """Why two results are not the same: exactly for integers and truth values, in the last bits for floats."""
    if have.dtype != want.dtype or have.shape != want.shape:
        return f"{have.dtype}{tuple(have.shape)} for {want.dtype}{tuple(want.shape)}"
    if not want.dtype.is_floating_point:
        return None if torch.equal(have, want) else f"{have}\nfor\n{want}"
    close = torch.allclose(have, want, rtol=2e-6, atol=1e-6, equal_nan=True)
    return None if close else f"off by {(have - want).abs().max()}"


@cache
def traced(case: str, composite: bool) -> tuple[fx.GraphModule, list[Tensor]]:
    """The graph of a case, with composite operations kept or decomposed, and what plain torch gives."""
    function, inputs = CASES[case]
    module = make_fx(lambda *xs: function(*xs), tracing_mode="fake", pre_dispatch=composite)(*inputs)
    return module, outputs(function(*inputs))


VARIANTS = [*((case, True) for case in CASES), *((case, False) for case in COMPOSITE)]
NAMES = [case if composite else f"{case}-decomposed" for case, composite in VARIANTS]


@pytest.mark.parametrize(("case", "composite"), VARIANTS, ids=NAMES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_operation(backend: str, case: str, composite: bool) -> None:
    module, want = traced(case, composite)
    have = BACKENDS[backend](module, CASES[case][1])
    assert len(have) == len(want)
    for a, b in zip(have, want, strict=True):
        assert (why := differs(a, b)) is None, why


@pytest.mark.parametrize("case", ["attend_parts", "softmax", "argmax_ties", "while_nested", "scatter_bool"])
def test_a_perturbed_result_is_told_apart(case: str) -> None:
    want = traced(case, True)[1][-1]
    assert differs(want.clone(), want) is None
    if want.dtype == torch.bool:
        perturbed = want.clone()
        perturbed[0, 0] ^= True
    else:
        perturbed = want * 1.0001 if want.dtype.is_floating_point else want + 1
    assert differs(perturbed, want) is not None
    assert differs(want.to(torch.float64), want) is not None
    assert differs(want[:1], want) is not None
