"""Run a point over a suite: what it gets right, how many tokens a model call brings, how long it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcompile.bench.points import Point
from dcompile.bench.suite import Question, Suite
from dcompile.session import Session, load


@dataclass(frozen=True)
class Score:
    """Of one point on one task: questions asked and answered rightly; tokens committed, model calls and seconds."""

    right: int
    asked: int
    tokens: int
    calls: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Exact match in per cent."""
        return 100 * self.right / self.asked

    @property
    def tokens_per_call(self) -> float:
        """Answer tokens committed by one model call, on average."""
        return self.tokens / self.calls

    def __add__(self, other: Score) -> Score:
        return Score(
            self.right + other.right, self.asked + other.asked, self.tokens + other.tokens, self.calls + other.calls,
            self.seconds + other.seconds,
        )  # fmt: skip


Build = Callable[[Point, Path], object]  # writes the artifact of a point


def measure(suite: Suite, point: Point, build: Build, threads: int | None = None) -> dict[str, Score]:
    """Build a point's artifact in a folder that goes again, and ask it every question; a score for each task."""
    with tempfile.TemporaryDirectory() as folder:
        build(point, Path(folder) / "artifact")
        session = load(Path(folder) / "artifact", threads)
        session.generate(_prompt(session, next(iter(suite.tasks.values()))[0]), max_new_tokens=suite.length)  # warm
        return {task: _ask(session, questions, suite.length) for task, questions in suite.tasks.items()}


def _ask(session: Session, questions: Sequence[Question], length: int) -> Score:
    total = Score(0, 0, 0, 0, 0.0)
    for question in questions:
        result = session.generate(_prompt(session, question), max_new_tokens=length)
        right = question.right(result.text or "")
        total += Score(right, 1, sum(result.committed_per_call), result.model_calls, result.seconds)
    return total


def _prompt(session: Session, question: Question) -> list[int]:
    return session.chat([{"role": "user", "content": question.text}])
