"""The oracle and the lowering read the same drafts the same way: random programs."""

from __future__ import annotations

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dcompile.dsl import load
from dcompile.source import Source
from tests.drafting import drafting
from tests.lower.test_drafts import both, drafter
from tests.passes.rows import model


@settings(max_examples=2, derandomize=True, phases=[Phase.generate])
@given(drafting(), st.sampled_from([0.0, 1.0]))
def test_random_drafts(text: str, heat: float) -> None:
    strategy = load(Source("random.dcs", text))
    models = {m.name: drafter() if m.name == "small" else model() for m in strategy.models}
    want, got = both(strategy, models, temperature=heat)
    assert got == want, text
