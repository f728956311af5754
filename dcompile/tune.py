"""How wide should this strategy draft, here? Measure what calls cost, record what is accepted, choose, and check.

Every tree is timed as what it will be: an artifact of the strategy with that tree. What is accepted is counted by the
oracle, on the widest tree in question, because it knows which nodes were kept.
"""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcompile import compiler
from dcompile.diagnostic import error
from dcompile.result import Result as Answer
from dcompile.session import Session, load
from dcompile.strategy import Draft, walk
from dcompile.text import TOKENIZER, open_text
from dcompile.trees import LIMIT, Tree, chain, written
from dcompile.tuning import bound
from dcompile.tuning.search import Choice, Cost, Rates, best_tree, bushes, chains, choose, count, rates

if TYPE_CHECKING:
    from dcompile.models import Model
    from dcompile.reference import Result
    from dcompile.source import Source
    from dcompile.strategy import Strategy

Prompt = str | Sequence[int]
Place = str | Path | Mapping[str, str | Path]
SIZES = (1, 2, 4, 8, 16, 32, 64)
PRIOR = (0.5, 0.2, 0.1, 0.06, 0.04, 0.03, 0.02, 0.01)
"""How likely children are by rank before anything is known: the trees that are timed and recorded have this shape."""
REPEATS = 5
CONDENSED = 2048


@dataclass(frozen=True)
class Job:
    """What is tuned: a strategy by its text, the models, the target, prompts and the length of their answers."""

    source: Source
    model: Place
    target: str
    prompts: Sequence[Prompt]
    tokens: int
    threads: int | None = None
    max_length: int | None = None
    temperature: float = 0.0


@dataclass(frozen=True)
class Report:
    """`seconds`: of a step, by the nodes that it verifies; `rates`: what was accepted; `choice`: the fastest tree as it
    was predicted, None where plain decoding is; `measured`: its speed over that of plain decoding, in each repeat."""

    seconds: Mapping[int, float]
    rates: Rates
    choice: Choice | None
    measured: tuple[float, ...] = ()

    @property
    def speedup(self) -> float | None:
        return statistics.median(self.measured) if self.measured else None

    @property
    def worth(self) -> bool:
        """Whether to speculate: it was predicted to be faster, and is."""
        return self.speedup is not None and self.speedup > 1


# ---------------------------------------------------------------- the strategy with another tree


def the_draft(strategy: Strategy) -> Draft:
    """The draft whose tree is chosen; an error where there is none, or several."""
    drafts = [n for n in walk(strategy.body) if isinstance(n, Draft)]
    if len(drafts) != 1:
        many = "drafts in several places" if drafts else "drafts nothing"
        raise error("nothing-to-tune", f"`{strategy.name}` {many}", "tune a strategy with one `draft`")
    return drafts[0]


def with_tree(source: Source, tree: Tree, said: str) -> str:
    """The strategy's text with this tree for its draft: `chain(n)`, or a member `tree` that is `said`."""
    strategy = compiler.read(source)
    span = the_draft(strategy).span
    shape = re.match(r"draft\s+\w+\s*=\s*(.*?)\s+from\b", source.text[span.start : span.end], re.DOTALL)
    assert shape is not None, "a draft says its shape"
    member = re.compile(rf"^([ \t]*tree[ \t]+{re.escape(shape[1])}[ \t]*=[ \t]*)[^\n#]*", re.MULTILINE)
    if member.search(source.text):
        return member.sub(lambda m: m[1] + said, source.text, count=1)
    before, behind = source.text[: span.start + shape.start(1)], source.text[span.start + shape.end(1) :]
    if tree.depth == tree.size - 1:
        return f"{before}chain({tree.depth}){behind}"
    at = before.rindex("\n", 0, strategy.canvas.span.start) + 1
    indent = before[at : strategy.canvas.span.start]
    return f"{before[:at]}{indent}tree tuned = {said}\n{before[at:]}tuned{behind}"


def shaped(source: Source, tree: Tree) -> Source:
    """The strategy with this tree, for a build: other files that it names are found as before."""
    routes = [[tree.ranks[n] for n in route[1:]] for route in tree.ancestors[1:]]
    return replace(source, text=with_tree(source, tree, str(routes)))


def write(job: Job, tree: Tree, path: Path, head: str) -> None:
    """A strategy file with this tree, and beside it the tree's own where there is one."""
    beside = path.with_suffix(".tree")
    text = with_tree(job.source, tree, f'"{beside.name}"')
    path.write_text(head + text, encoding="utf-8")
    if beside.name in text:
        beside.write_text(written(tree), encoding="utf-8")


# ---------------------------------------------------------------- seconds


@contextmanager
def built(job: Job, tree: Tree | None) -> Iterator[Session]:
    """An artifact of the strategy with this tree; without one, of plain decoding."""
    strategy: str | Source = "greedy" if tree is None else shaped(job.source, tree)
    model = job.model
    if tree is None and not isinstance(model, (str, Path)):
        model = model[compiler.read(job.source).models[0].name]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "artifact"
        compiler.build(strategy, model, out, job.target, max_length=job.max_length)
        session = load(out, job.threads)
        _answer(session, job, job.prompts[0], job.tokens)  # a runtime's first run is not like the others
        yield session


def _answer(session: Session, job: Job, prompt: Prompt, tokens: int) -> Answer:
    session.forget()  # what was drafted before would be known
    return session.generate(prompt, max_new_tokens=tokens, temperature=job.temperature, seed=0)


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


def step_seconds(job: Job, tree: Tree | None) -> float:
    """A step of this tree, the median of three rounds."""
    with built(job, tree) as session:
        rounds = [seconds(session, job) for _ in range(3)]
    return statistics.median(spent / steps for spent, steps, _ in rounds)


def alternating(job: Job, tree: Tree, repeats: int = REPEATS) -> tuple[float, ...]:
    """Tokens a second with this tree over those of plain decoding, in rounds of both."""
    out = []
    with built(job, None) as plain, built(job, tree) as drafting:
        for _ in range(repeats):
            (a, _, n), (b, _, m) = seconds(plain, job), seconds(drafting, job)
            out.append((m / b) / (n / a))
    return tuple(out)


# ---------------------------------------------------------------- what is accepted


def recorded(job: Job, tree: Tree) -> list[Result]:
    """The oracle's runs of the strategy with this tree, one a prompt."""
    from dcompile.controls import Controls
    from dcompile.reference import run

    strategy = compiler.read(shaped(job.source, tree))
    models = compiler.load_all(strategy, job.model)
    first = models[strategy.models[0].name]
    chosen = Controls(temperature=job.temperature, eos_ids=first.facts.eos_ids)
    return [run(strategy, models, ids, length=job.tokens, sampling=chosen) for ids in _ids(job, first)]


def _ids(job: Job, model: Model) -> list[tuple[int, ...]]:
    """The prompts as token ids; texts by the model's own tokenizer, as an artifact has it."""
    if not any(isinstance(prompt, str) for prompt in job.prompts):
        return [tuple(map(int, prompt)) for prompt in job.prompts]
    with tempfile.TemporaryDirectory() as folder:
        for file in model.files:
            if file.name == TOKENIZER:
                shutil.copyfile(file, Path(folder) / file.name)
        text = open_text(Path(folder), model.facts)
    if text is None:
        raise error("no-tokenizer", "a text needs a tokenizer, and the model has none", "give token ids")
    return [tuple(text.encode(p) if isinstance(p, str) else map(int, p)) for p in job.prompts]


def bounds(job: Job, most: int) -> list[dict[str, float]]:
    """For 1 to `most` children: what each rule accepts of them, and the most that any could, on average over the laws
    that were recorded at the roots."""
    strategy = compiler.read(job.source)
    if the_draft(strategy).model is None:
        raise error("nothing-to-bound", "the draft has no distribution to compare with", "a draft `by` a model has one")
    pairs = [
        bound.condensed(np.asarray(told.p, dtype=np.float64), np.asarray(told.q, dtype=np.float64), CONDENSED)
        for result in recorded(job, the_draft(strategy).tree)
        for told in result.judged
    ]
    table = []
    for k in range(1, most + 1):
        rules = {name: float(np.mean([rule(p, q, k) for p, q in pairs])) for name, rule in bound.ACCEPTANCE.items()}
        best = {f"optimal, {drawn}": float(np.mean([bound.optimal(p, q, k, drawn) for p, q in pairs]))
                for drawn in ("sample", "distinct", "greedy", "top")}  # fmt: skip
        table.append({**rules, **best})
    return table


# ---------------------------------------------------------------- all of it


def tune(job: Job, sizes: Sequence[int] = SIZES, tell: Callable[[str], None] = lambda line: None) -> Report:
    """Measure, record, choose, and measure what was chosen; `tell` hears each part as it is known."""
    strategy = compiler.read(job.source)
    first = the_draft(strategy).tree
    straight = first.depth == first.size - 1
    prior = [PRIOR[: max(map(len, first.children))]] * (max(sizes) if straight else first.depth)
    family = [chain(n - 1) if straight else best_tree(prior, n) for n in sorted(set(sizes)) if 1 < n <= LIMIT]
    family = list({tree.size: tree for tree in family}.values())
    timed: dict[int, float] = {}
    for tree in [None, *family]:
        size = 1 if tree is None else tree.size
        timed[size] = step_seconds(job, tree)
        tell(f"{size} positions: {1000 * timed[size]:.2f} ms")
    widest = family[-1]
    kept = [told.kept for result in recorded(job, widest) for told in result.judged]
    found = rates(*count(kept, widest))
    tell("accepted: " + "  ".join(f"{100 * row[0]:.0f} %" for row in found if row[0] > 0))
    trees = chains(widest.depth) if straight else bushes(found, widest.size, widest.depth)
    choice = choose(trees, found, Cost(timed))
    if choice is None:
        return Report(timed, found, None)
    tell(f"predicted: {choice.tokens:.2f} tokens a step, {choice.speedup:.2f} x plain decoding")
    return Report(timed, found, choice, alternating(job, choice.tree))
