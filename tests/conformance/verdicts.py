"""A case against its recording, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcompile.diagnostic import CompileError
from dcompile.reference import Forced
from tests.conformance.cases import Case, Run
from tests.conformance.engines import Engine, Outcome, follow
from tests.conformance.plan import NotCovered, Plan
from tests.conformance.plans import plan


@dataclass(frozen=True)
class Verdict:
    """`same`: every run of every engine equals the recording. None: the method is not in the library."""

    case: Case
    same: bool | None
    runs: int = 0
    words: str = ""


def judge(case: Case, model: Path | None, engines: Mapping[str, Engine]) -> Verdict:
    """Run a case through the engines."""
    try:
        made = plan(case)
    except NotCovered as reason:
        return Verdict(case, False, words=f"not covered: {reason}")
    if made is None:
        return Verdict(case, None, words="the method is not in the library yet")
    if model is None:
        return Verdict(case, False, words=f"no model `{case.model}` (make models)")
    good, words = len(case.runs), []
    for name, engine in engines.items():
        try:
            outcomes = engine(made, model, [run.prompt for run in case.runs])
        except CompileError as problem:
            return Verdict(case, False, words=f"{name}: {problem.diagnostics[0].title}")
        wrong = [n for n, (run, got) in enumerate(zip(case.runs, outcomes, strict=True)) if not equal(run, got, made)]
        good = min(good, len(case.runs) - len(wrong))
        words += [f"{name}: run {n}: {difference(case.runs[n], outcomes[n], made, model)}" for n in wrong[:1]]
    return Verdict(case, not words, good, "; ".join(words))


def equal(run: Run, got: Outcome, made: Plan) -> bool:
    """The same tokens after the same number of calls, each written by the same call where the recording tells."""
    if not run.order:
        return (run.output, run.calls) == (got.answer, got.calls)
    same = compared(made, run.output, run.order) == compared(made, got.answer, got.order)
    return same and run.calls == got.calls


def compared(made: Plan, answer: Sequence[int], order: Sequence[int]) -> list[tuple[int, int]]:
    """The part of an answer that a plan answers for: the tokens, and which call wrote each."""
    pairs = list(zip(answer, order, strict=True))
    if not made.returned:
        return pairs
    stop = next((n for n, token in enumerate(answer) if token in made.options["eos_ids"]), len(pairs))
    return pairs[: max((n + 1 for n, (_, call) in enumerate(pairs) if call and n <= stop), default=0)]


def difference(run: Run, got: Outcome, made: Plan, model: Path) -> str:
    """Where a run parts from the recording, and whether rounding alone can explain it: then the oracle can follow both
    with no decision but near-ties."""
    parted = _first(run, got)
    if made.returned or not run.order:  # positions that no call wrote cannot be followed
        return parted
    gaps = []
    for tokens, order, calls in ((run.output, run.order, run.calls), (got.answer, got.order, got.calls)):
        result = follow(made, model, run.prompt, Forced(tokens, order))
        gaps += [d.gap for d in result.differences] or [0.0 if result.model_calls == calls else 1.0]
    near = max(gaps) < 1e-4
    return f"{parted} ({'a numeric near-tie' if near else 'no near-tie'}, largest gap {max(gaps):.1e})"


def _first(run: Run, got: Outcome) -> str:
    pairs = zip(run.order, run.output, got.order, got.answer, strict=False)
    parted = [(min(a, c) or max(a, c), n, b, d) for n, (a, b, c, d) in enumerate(pairs) if (a, b) != (c, d)]
    if parted:
        call, n, token, other = min(parted)
        return f"call {call}, answer position {n}: token {other} for {token}"
    return f"{got.calls} calls for {run.calls}, {len(got.answer)} tokens for {len(run.output)}"


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Methods, and how many of their cases and runs are the same."""
    lines = [f"{'method':<22}{'cases':>8}{'same':>8}{'runs':>8}{'same':>8}"]
    for method in sorted({v.case.method for v in verdicts}):
        mine = [v for v in verdicts if v.case.method == method]
        runs = sum(len(v.case.runs) for v in mine)
        if mine[0].same is None:
            lines.append(f"{method:<22}{len(mine):>8}{'-':>8}{runs:>8}{'-':>8}")
            continue
        same, good = sum(v.same is True for v in mine), sum(v.runs for v in mine)
        lines.append(f"{method:<22}{len(mine):>8}{same:>8}{runs:>8}{good:>8}")
    return lines
