"""The accept rules' graphs give on every backend the nodes and tokens that they give in plain torch."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from dcompile.lower.accepts import accept
from dcompile.record import Recorder
from dcompile.strategy.drafts import Rule
from tests.backends.harness import BACKENDS, through
from tests.lower.test_accepts import ROWS, TREES, VOCAB, drafts

CASES = [
    pytest.param(backend, rule, marks=pytest.mark.slow if backend == "tvm" else [])
    for backend in (*BACKENDS, "tvm")
    for rule in get_args(Rule)
]


@pytest.mark.parametrize(("backend", "rule"), CASES)
def test_a_rule_decides_alike_everywhere(backend: str, rule: Rule) -> None:
    if backend == "tvm":
        pytest.importorskip("tvm")
    tree = TREES["chain" if rule in ("rejection", "block") else "uneven"]
    given = drafts(tree, 5, warm=True)
    recorder = Recorder({})
    with recorder.recording():
        tokens = recorder.input("tokens", (ROWS, tree.size), torch.int64)
        live = recorder.input("live", (ROWS, tree.size), torch.bool)
        p, q = (recorder.input(name, (ROWS, tree.size, VOCAB), torch.float32) for name in "pq")
        u = recorder.input("u", (ROWS, tree.size), torch.float32)
        module = recorder.finish(accept(rule, tree, tokens, live, p, q, u, distinct=True))
    have = BACKENDS.get(backend, through("tvm"))(module, list(given))
    want = accept(rule, tree, *given, distinct=True)
    assert [x.tolist() for x in have] == [x.tolist() for x in want]
