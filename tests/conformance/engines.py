"""What can run a plan: the oracle, and the artifacts of every target."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from dcompile import compiler
from dcompile.artifact import Manifest
from dcompile.backends import registry
from dcompile.controls import Controls
from dcompile.drive import Executable, turns
from dcompile.feed import Request, feed
from dcompile.lower import forcing
from dcompile.manifest import describe
from dcompile.models import Model, load_model
from dcompile.reference import Forced, Result, run
from dcompile.result import read_row
from dcompile.session import load
from dcompile.strategy import Strategy
from tests.conformance.plan import Plan


@dataclass(frozen=True)
class Outcome:
    """What an engine did with one prompt: the answer positions, the number of calls, and which call wrote each."""

    answer: tuple[int, ...]
    calls: int
    order: tuple[int, ...]


class Engine(Protocol):
    """Runs a plan on prompts."""

    def __call__(self, plan: Plan, model: Path, prompts: Sequence[Sequence[int]]) -> list[Outcome]: ...


@lru_cache(maxsize=4)
def model_at(path: Path) -> Model:
    """A model, loaded once."""
    return load_model(path)


def oracle(plan: Plan, model: Path, prompts: Sequence[Sequence[int]]) -> list[Outcome]:
    """The oracle as an engine."""
    return [_outcome(follow(plan, model, prompt), len(prompt)) for prompt in prompts]


def follow(plan: Plan, model: Path, prompt: Sequence[int], forced: Forced | None = None) -> Result:
    """The oracle's run of a plan, along another engine's commits if they are given."""
    strategy = compiler.read(plan.file, plan.settings)
    options = dict(plan.options)
    template = options.pop("template", ())
    controls = Controls(banned=tuple(options.pop("banned_tokens", ())), **options)
    return run(
        strategy, model_at(model), prompt, length=plan.asked(len(prompt)), sampling=controls, template=template,
        forced=forced, draws=plan.draws.get(tuple(prompt)),
    )  # fmt: skip


def _outcome(result: Result, start: int) -> Outcome:
    return Outcome(result.tokens[start:], result.model_calls, result.order)


def artifact(target: str, loop: str) -> Engine:
    """The engine that builds an artifact for `target` and runs it, one prompt at a time."""

    def engine(plan: Plan, model: Path, prompts: Sequence[Sequence[int]]) -> list[Outcome]:
        if plan.draws:
            return replayed(target, loop, plan, model, prompts)
        room = max(len(p) + plan.asked(len(p)) for p in prompts) + int(plan.settings.get("block", 1))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "artifact"
            compiler.build(plan.file, model, out, target, settings=plan.settings, max_length=room, loop=loop)
            session = load(out)
            made = [
                session.run([p], max_new_tokens=plan.asked(len(p)), temperature=0.0, **plan.options) for p in prompts
            ]
        rows = [generation.rows()[0] for generation in made]
        grown = [row.ids if session.artifact.manifest.canvas.init == "empty" else row.canvas for row in rows]
        return [Outcome(ids, row.calls, row.order[: len(ids)]) for ids, row in zip(grown, rows, strict=True)]

    return engine


def replayed(target: str, loop: str, plan: Plan, model: Path, prompts: Sequence[Sequence[int]]) -> list[Outcome]:
    """The same by an artifact that takes the recorded draws in place of its own."""
    strategy, loaded = compiler.read(plan.file, plan.settings), model_at(model)
    visits = 1 + max(visit for draws in plan.draws.values() for _, _, visit in draws)
    room = max(len(p) + plan.asked(len(p)) for p in prompts)
    order, backend = compiler.Order(target, room, loop=loop, draws=visits), registry.builder(target)
    program = compiler.compile(strategy, loaded, order, backend, compiler.Watch())
    with tempfile.TemporaryDirectory() as folder:
        files = backend.build(program, Path(folder))
        manifest = describe(program, target, files, rng=True)
        executable = registry.loader(target)(Path(folder), files, threads=1)
        return [_replay(plan, strategy, manifest, executable, visits, tuple(prompt)) for prompt in prompts]


def _replay(
    plan: Plan, strategy: Strategy, manifest: Manifest, executable: Executable, visits: int, prompt: tuple[int, ...]
) -> Outcome:
    request = Request(prompt, plan.asked(len(prompt)), Controls(**plan.options))
    arrays = feed(manifest, [request], {})
    arrays["draws"] = forcing.array(strategy, 1, manifest.capacity, visits, plan.draws[prompt], 0)
    *_, last = turns(executable, manifest, arrays)
    row = read_row(manifest, request, last.state, 0, done=True)
    return Outcome(row.canvas, row.calls, row.order)
