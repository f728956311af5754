"""What a tree costs and brings: the artifact of the strategy with it is built, run on the prompts, and timed."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcompile import compiler
from dcompile.diagnostic import error
from dcompile.result import Result
from dcompile.session import Session, load
from dcompile.source import Source
from dcompile.trees import Tree
from dcompile.tuning.search import Rates, count, rates
from dcompile.tuning.shaping import TALLY, counted, shaped

if TYPE_CHECKING:
    from dcompile.models import Model

Prompt = str | Sequence[int]
Place = str | Path | Mapping[str, str | Path]
REPEATS = 5


@dataclass(frozen=True)
class Job:
    """What is tuned: a strategy by its text, the models, the target, prompts (of a `chat`: what a user says) and the
    length of their answers; `quantize`, `activations` and `loop` as of a build. `shelf`: the folder of artifacts."""

    source: Source
    model: Place
    target: str
    prompts: Sequence[Prompt]
    tokens: int
    threads: int | None = None
    max_length: int | None = None
    temperature: float = 0.0
    chat: bool = False
    quantize: str | None = None
    activations: str = "float32"
    loop: str = "inside"
    shelf: Path | None = None


@dataclass(frozen=True)
class Trial:
    """What a step of a tree (None: no draft) took, how many tokens it committed, and the rates of its nodes."""

    tree: Tree | None
    seconds: float
    tokens: float
    rates: Rates


def built(job: Job, tree: Tree | None) -> Session:
    """An artifact of the strategy with this tree, which counts its nodes; without one, of plain decoding. What was
    built once is on the shelf."""
    assert job.shelf is not None
    folder = job.shelf / ("plain" if tree is None else hashlib.sha256(repr(tree).encode()).hexdigest())
    if not folder.exists():
        _build(job, tree, folder)
    session = load(folder, job.threads)
    _answer(session, job, job.prompts[0], job.tokens)  # a runtime's first run is not like the others
    return session


def _build(job: Job, tree: Tree | None, folder: Path) -> None:
    models = loaded(job)
    if tree is None:
        strategy = compiler.read("greedy")
        models = {strategy.models[0].name: models[compiler.read(job.source).models[0].name]}
    else:
        strategy = counted(compiler.read(shaped(job.source, tree)))
    order = compiler.Order(
        job.target, job.max_length, loop=job.loop, quantize=job.quantize, activations=job.activations
    )
    compiler.write(strategy, models, order, folder)


def loaded(job: Job) -> Mapping[str, Model]:
    """The models of a job, read once."""
    places = compiler.named(compiler.read(job.source), job.model)
    return _models(job.source, tuple((name, str(place)) for name, place in places.items()), job.quantize)


@lru_cache(maxsize=1)
def _models(source: Source, places: tuple[tuple[str, str], ...], quantize: str | None) -> Mapping[str, Model]:
    found = compiler.load_all(compiler.read(source), dict(places))
    return {name: compiler.in_blocks(model, quantize) for name, model in found.items()}


def _answer(session: Session, job: Job, prompt: Prompt, tokens: int) -> Result:
    session.forget()  # what was drafted before would be known
    asked = session.chat([{"role": "user", "content": prompt}]) if job.chat and isinstance(prompt, str) else prompt
    return session.generate(asked, max_new_tokens=tokens, temperature=job.temperature, seed=0)


def seconds(session: Session, job: Job) -> tuple[float, int, int]:
    """Over all prompts: seconds, steps and tokens of the answers, the prefill and the first step taken out."""
    spent, steps, made = 0.0, 0, 0
    for prompt in job.prompts:
        head = _answer(session, job, prompt, 1)
        whole = _answer(session, job, prompt, job.tokens)
        committed = [n for n in whole.committed_per_call if n]
        spent += max(whole.seconds - head.seconds, 0.0)
        steps += len(committed) - 1
        made += sum(committed[1:])
    if steps <= 0 or spent <= 0:
        raise error("nothing-to-tune", "the answers are too short to be timed", "give more prompts, or longer answers")
    return spent, steps, made


def step_seconds(session: Session, job: Job, tree: Tree | None) -> float:
    """A step of the artifact of this tree, the median of three rounds."""
    rounds = [seconds(session, job) for _ in range(3)]
    return statistics.median(spent / steps for spent, steps, _ in rounds)


def trial(job: Job, tree: Tree | None) -> Trial:
    """Build the artifact of a tree, count what it commits, time it."""
    session = built(job, tree)
    made, kept = tallied(session, job, tree)
    return Trial(tree, step_seconds(session, job, tree), made, kept)


def tallied(session: Session, job: Job, tree: Tree | None) -> tuple[float, Rates]:
    """Over all prompts: the tokens that a step commits, and the rates at which nodes were kept."""
    steps, made = 0, 0
    stayed = np.zeros(1 if tree is None else tree.size, np.int64)
    for prompt in job.prompts:
        answer = _answer(session, job, prompt, job.tokens)
        steps += sum(n > 0 for n in answer.committed_per_call)
        made += len(answer.output_ids)
        if tree is not None:
            stayed += session.memory[f"session_{TALLY}"][0]
    stayed[0] = steps
    return made / steps, [] if tree is None else rates(*count(stayed.tolist(), tree))


def alternating(job: Job, tree: Tree, repeats: int = REPEATS) -> tuple[float, ...]:
    """Tokens a second with this tree over those of plain decoding, in rounds of both."""
    out = []
    plain, drafting = built(job, None), built(job, tree)
    for _ in range(repeats):
        (a, _, n), (b, _, m) = seconds(plain, job), seconds(drafting, job)
        out.append((m / b) / (n / a))
    return tuple(out)
