"""Engines in turn on the same prompts: seconds to the first token, and of the whole answer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from worker import Worker

REST = 0.3  # seconds between engines: threads of the one before may still wait for work, and take a processor


@dataclass(frozen=True)
class Run:
    """One answer of one engine in one round; `first` is the seconds of a run that stops at its first token."""

    engine: str
    kind: str
    turn: int
    prompt: list[int]
    tokens: list[int]
    whole: float
    first: float
    calls: int | None
    memory: float

    @property
    def speed(self) -> float:
        """Tokens a second, end to end."""
        return len(self.tokens) / self.whole

    @property
    def step(self) -> float:
        """Seconds a token behind the first."""
        return (self.whole - self.first) / max(len(self.tokens) - 1, 1)


def race(
    workers: Sequence[Worker], kind: str, prompts: list[list[int]], count: int, rounds: int, once: Sequence[str] = ()
) -> list[Run]:
    """Each round asks every engine for `count` tokens of the next prompt; before it, all of them once to warm up. Those
    of `once` are in the first round alone: the slowest, which nothing is compared with."""
    workers = [worker for worker in workers if _answers(worker, prompts[0])]
    found = []
    for turn in range(rounds):
        prompt = prompts[turn % len(prompts)]
        asked = [worker for worker in workers if turn == 0 or worker.name not in once]
        for worker in asked:
            time.sleep(REST)
            first = worker.ask(prompt, 1).seconds
            answer = worker.ask(prompt, count)
            run = Run(
                worker.name, kind, turn, prompt, answer.tokens, answer.seconds, first, answer.calls, answer.memory
            )
            found.append(run)
        print(f"{kind} {turn + 1}: " + "  ".join(f"{r.engine} {r.speed:.1f}" for r in found[-len(asked) :]), flush=True)
    return found


def _answers(worker: Worker, prompt: list[int]) -> bool:
    """Whether an engine is there. Ours must be; another that dies is left out, and named."""
    try:
        worker.ask(prompt, 4)
    except (RuntimeError, BrokenPipeError) as problem:
        if worker.spec["engine"] == "dcompile":
            raise
        print(f"{worker.name} is left out: {problem}", flush=True)
        return False
    return True


def median(runs: Sequence[Run], engine: str, what: Callable[[Run], float], kind: str | None = None) -> float:
    """Of an engine's runs, of one kind of prompt or of all."""
    return statistics.median(what(r) for r in runs if r.engine == engine and kind in (None, r.kind))


def ratio(runs: Sequence[Run], ours: str, theirs: str, kind: str | None = None) -> float | None:
    """How much faster ours is end to end: the median over rounds that both ran; None where one is absent."""
    found: Mapping[tuple[str, str, int], Run] = {(r.engine, r.kind, r.turn): r for r in runs}
    pairs = [
        (run.whole, found[theirs, run.kind, run.turn].whole)
        for run in runs
        if run.engine == ours and kind in (None, run.kind) and (theirs, run.kind, run.turn) in found
    ]
    return statistics.median(b / a for a, b in pairs) if pairs else None


def agreement(runs: Sequence[Run], engine: str, other: str) -> tuple[int, int]:
    """In how many rounds two engines gave the same tokens, of how many."""
    found = {(r.engine, r.kind, r.turn): r for r in runs}
    same = [
        r.tokens == found[other, r.kind, r.turn].tokens
        for r in runs
        if r.engine == engine and (other, r.kind, r.turn) in found
    ]
    return sum(same), len(same)
