"""What is said of a strategy before anything is traced: errors, and a report of verdicts, shapes and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from dcompile.diagnostic import CompileError, Diagnostic, Label
from dcompile.dsl import (
    depth,
    dists,
    eviction,
    externs,
    heads,
    modules,
    permuted,
    progress,
    proposals,
    readable,
    rows,
    shadows,
    shapes,
    vectors,
)
from dcompile.dsl.progress import head
from dcompile.dsl.regions import EVERYTHING, survey, within
from dcompile.dsl.verdicts import Verdict, cache, lossless
from dcompile.dsl.verified import drafts
from dcompile.model import Facts
from dcompile.source import Span
from dcompile.strategy import Branches, Call, Draft, Found, MaskToken, ModelUse, Strategy, TextAt, Write, walk


def check(strategy: Strategy) -> list[Diagnostic]:
    """Mistakes that need no model: loops without an end, scores that are not known, `require lossless` not met."""
    world = survey(strategy)
    if wrong := _canvas(strategy):
        return wrong
    out = list(progress.diagnostics(world, strategy.body))
    out += readable.unread(world, strategy)
    out += readable.appended(strategy.body)[1]
    out += _guidance(strategy)
    out += proposals.unfit(strategy.body)
    out += dists.unfit(strategy)
    out += depth.mixed(strategy) + eviction.mixed(strategy)
    out += permuted.unfit(strategy)
    out += modules.unfit(world, strategy)
    out += vectors.unfit(strategy)
    if strategy.lossless and not out:
        verdict = lossless(world, strategy, cache(world, strategy))
        if verdict.word != "proved":
            label = Label(verdict.span or strategy.canvas.span, verdict.reason)
            out.append(
                Diagnostic(
                    "not-lossless",
                    "the strategy requires to be lossless, and is not",
                    label,
                    help="take out `require lossless`, or change this line",
                )
            )
    return out


def _guidance(strategy: Strategy) -> list[Diagnostic]:
    world = survey(strategy)
    return [
        Diagnostic("guidance-without-everything", "guidance needs a call that feeds `everything`", Label(n.feed.span),
                   help="the unconditional half has the prompt masked, so no cache fits it")
        for n in walk(strategy.body)
        if isinstance(n, Call) and n.guidance is not None and not within(world, EVERYTHING, n.feed)
    ]  # fmt: skip


def _canvas(strategy: Strategy) -> list[Diagnostic]:
    wrong = {
        ("empty", "commit"): ("an `empty` canvas has no masked positions to commit", "`append p.token`"),
        ("empty", "truncate"): ("an `empty` canvas ends behind what was appended", "`stop when ...`"),
        ("masked", "append"): ("a `masked` canvas has no end to append to", "`commit p.token at ...`"),
        ("uniform", "append"): ("a `uniform` canvas has no end to append to", "`commit p.token at ...`"),
        ("uniform", "mask"): ("a `uniform` canvas knows no mask token", "`noise ...`"),
    }
    found = [(n, wrong.get((strategy.canvas.init, n.action))) for n in walk(strategy.body) if isinstance(n, Write)]
    also = (Label(strategy.canvas.span, "the canvas"),)
    return (
        [Diagnostic("wrong-canvas", words[0], Label(n.span), also, f"write {words[1]}") for n, words in found if words]
        + [
            Diagnostic(
                "wrong-canvas", "a draft tree grows behind an `empty` canvas", Label(n.span), also, "`empty(length)`"
            )
            for n in walk(strategy.body)
            if isinstance(n, (Draft, Found, TextAt)) and strategy.canvas.init != "empty"
        ]
        + [
            Diagnostic("wrong-canvas", "branches draft masked positions", Label(head(n.span)), also, "`masked(length)`")
            for n in walk(strategy.body)
            if isinstance(n, Branches) and strategy.canvas.init == "empty"
        ]
    )


# ---------------------------------------------------------------- with a model


def check_model(strategy: Strategy, facts: Facts) -> list[Diagnostic]:
    """Mistakes that show only with a model: its mask token, its attention, its shift; and modules without a file."""
    use = strategy.models[0]
    out = modules.missing(strategy) + externs.missing(strategy) + rows.unfit(strategy, facts)
    if facts.mask_id is None and _masks(strategy):
        out.append(
            Diagnostic(
                "no-mask-token",
                f"the model `{facts.source or facts.family}` has no mask token",
                Label(use.span),
                (Label(strategy.canvas.span, "masked positions"),),
                "choose a masked-diffusion checkpoint, or a strategy for causal models such as `greedy`",
            )
        )
    out += _attention(use, facts)
    out += heads.mismatched(strategy, facts)
    out += shadows.shifted(strategy, facts)
    if facts.shift:
        out += readable.unread(survey(strategy), strategy, shift=True)
    return out


def check_models(strategy: Strategy, facts: Mapping[str, Facts]) -> list[Diagnostic]:
    """Mistakes that show only with the models: those of the first, and that all fit each other."""
    main = facts[strategy.models[0].name]
    out = check_model(strategy, main)
    for use in strategy.models[1:]:
        if (found := facts.get(use.name)) is None:
            continue
        out += _attention(use, found)
        if found.vocab != main.vocab:
            title = f"the models have vocabularies of {main.vocab} and {found.vocab} tokens"
            also = (Label(strategy.models[0].span, f"{main.vocab} tokens"),)
            help = "choose two checkpoints of one family: a token id must mean the same to both"
            out.append(Diagnostic("vocabulary-mismatch", title, Label(use.span), also, help))
    return out


def _attention(use: ModelUse, facts: Facts) -> list[Diagnostic]:
    wanted = "full" if use.attention == "masked" else use.attention
    if facts.attention == wanted:
        return []
    kind = "masked" if facts.attention == "full" else facts.attention
    return [
        Diagnostic(
            "attention-mismatch",
            f"the strategy wants {wanted} attention, the model has {facts.attention}",
            Label(use.span),
            help=f"a strategy for this model says `model {use.name}: {kind}`",
        )
    ]


def _masks(strategy: Strategy) -> bool:
    return strategy.canvas.init == "masked" or any(
        (isinstance(n, Write) and n.action == "mask")
        or (isinstance(n, Call) and (n.guidance is not None or n.shadow is not None))
        or isinstance(n, MaskToken)
        for n in walk(strategy.body)
    )


# ---------------------------------------------------------------- the report


@dataclass(frozen=True)
class Fact:
    """One line of a report: what about what, and why; `line` counts from 1, 0 for none."""

    about: str
    verdict: str
    why: str
    line: int


@dataclass(frozen=True)
class Report:
    """What the checker found; `memory` in bytes for `capacity` positions and `batch` rows."""

    strategy: str
    progress: tuple[Fact, ...]
    cache: Fact
    lossless: Fact
    branches: tuple[Fact, ...]
    calls: tuple[Fact, ...]
    memory: tuple[tuple[str, int], ...]
    capacity: int | None
    batch: int
    diagnostics: tuple[Diagnostic, ...]

    def json(self) -> dict[str, object]:
        """The report as plain data."""
        out = asdict(self)
        out["memory"] = dict(self.memory)
        out["diagnostics"] = [
            {"code": d.code, "title": d.title, "severity": d.severity, "help": d.help, "text": str(d)}
            for d in self.diagnostics
        ]
        return out

    def __str__(self) -> str:
        rows = [f"strategy {self.strategy}", "", "progress"]
        rows += [f"  line {f.line:<4} {f.about}: {f.why}" for f in self.progress] or ["  no loops"]
        for title, fact in (("cache", self.cache), ("losslessness", self.lossless)):
            where = f" (line {fact.line})" if fact.line else ""
            rows += ["", f"{title}: {fact.verdict}{where}", f"  {fact.why}"]
        if self.branches:
            rows += ["", "branches"]
            rows += [f"  line {f.line:<4} {f.about}: {f.verdict}, {f.why}" for f in self.branches]
        rows += ["", "calls"]
        rows += [f"  line {f.line:<4} {f.about}: {f.verdict}" for f in self.calls] or ["  none"]
        if self.memory:
            rows += ["", f"memory for {self.capacity} positions, {self.batch} row{'s' * (self.batch > 1)}"]
            rows += [f"  {name:<24} {shapes.pretty(size):>10}" for name, size in self.memory]
        return "\n".join([*rows, *(f"\n{d}" for d in self.diagnostics)])


def report(
    strategy: Strategy, facts: Facts | Mapping[str, Facts] | None = None, capacity: int | None = None,
    batch: int = 1, kv_bytes: int = 4,
) -> Report:  # fmt: skip
    """Verdicts on a strategy; with a model also its mistakes, with a capacity (`--max-length`) the bytes of all state.

    `kv_bytes` is the size of one number of the K/V cache. Diagnostics are returned, not raised.
    """
    known = {strategy.models[0].name: facts} if isinstance(facts, Facts) else facts or {}
    world = survey(strategy)
    exact = cache(world, strategy)
    loss = lossless(world, strategy, exact)
    loops = tuple(
        Fact(shapes.first_words(e.span), "ends" if e.why else "unknown", e.why, _line(e.span))
        for e in progress.endings(world, strategy.body)
    )
    calls = tuple(
        Fact(shapes.first_words(c.span), shapes.width(strategy, c.feed, capacity), "", _line(c.span))
        for c in walk(strategy.body)
        if isinstance(c, Call)
    )
    found = [*check(strategy), *(check_models(strategy, known) if known else [])]
    memory = shapes.memory(strategy, known, capacity, batch, kv_bytes) if capacity else ()
    return Report(
        strategy.name,
        loops,
        _fact("cache", exact),
        _fact("losslessness", loss),
        tuple(_drafts(n, why, span) for n, why, span in drafts(world, strategy)),
        calls,
        memory,
        capacity,
        batch,
        tuple(found),
    )


def _drafts(node: Branches, why: str, span: Span) -> Fact:
    """What the drafts of a statement do to the tokens."""
    about = shapes.first_words(node.span)
    if why:
        return Fact(about, "may change tokens", why, _line(span))
    return Fact(about, "change no token", "each accepted draft is the policy's own next step", _line(node.span))


def _fact(about: str, verdict: Verdict) -> Fact:
    return Fact(about, verdict.word, verdict.reason, _line(verdict.span))


def _line(span: Span | None) -> int:
    return span.source.place(span.start)[0] if span is not None and span.source is not None else 0


def require(strategy: Strategy) -> Strategy:
    """The strategy, if `check` finds nothing; raises CompileError otherwise."""
    if found := check(strategy):
        raise CompileError(found)
    return strategy
