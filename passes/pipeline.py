"""The passes in order, with the reason for the order beside each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dcompile.passes.base import Observer, Pass, Stage, run_passes
from dcompile.passes.capture_cache import CaptureCache
from dcompile.passes.common_subexpressions import CommonSubexpressions
from dcompile.passes.cut import cut
from dcompile.passes.dead_state import DeadState
from dcompile.passes.fuse_scores import FuseScores
from dcompile.passes.hoist import Hoist
from dcompile.passes.select_branches import SelectBranches
from dcompile.passes.share_weights import ShareWeights
from dcompile.passes.slice_head import SliceHead
from dcompile.program import Program
from dcompile.stopwatch import part

PIPELINE: tuple[Stage, ...] = (
    Stage("canonical", (
        CommonSubexpressions(),  # first: the others look for one node where lowering says a thing often
        ShareWeights(),
    )),
    Stage("scores", (
        SliceHead(),  # before fuse-scores: selections stand right behind the head
        FuseScores(),
    )),
    Stage("loops", (
        CaptureCache(),  # before hoist: it asks what the loop's slots depend on, and makes more that does not change
        Hoist(),
        CommonSubexpressions(),  # what was hoisted from several loops is often the same
        DeadState(),  # last: captures and merges have taken the uses of some state
    )),
)  # fmt: skip

PASSES: dict[str, Pass] = {p.name: p for s in (*PIPELINE, Stage("", (SelectBranches(),))) for p in s.passes}


def optimise(
    program: Program,
    loop: str = "inside",
    *,
    legal: Sequence[Stage] = (),
    without: Collection[str] = (),
    limit: int | None = None,
    observers: Sequence[Observer] = (),
) -> Program:
    """All passes, then the cut, then what the backend needs (`legal`, which `without` and `limit` do not touch)."""
    program = run_passes(program, PIPELINE, without=without, limit=limit, observers=observers)
    with part("cut"):
        program = cut(program, loop)
    return run_passes(program, legal, observers=observers)
