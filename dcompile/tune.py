"""How wide should this strategy draft, here? Measure what calls cost, record what is accepted, choose, and check.

Every tree is tried as what it will be: an artifact of the strategy with that tree, which counts for the session how
often each node was kept. So a trial says what a step costs, what it brings, and what other trees would bring.
"""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dcompile import compiler
from dcompile.diagnostic import error
from dcompile.result import Result as Answer
from dcompile.session import Session, load
from dcompile.strategy import (
    INT,
    REGION,
    Accept,
    Draft,
    Entry,
    Fill,
    Kept,
    Literal,
    NodeFact,
    Op,
    State,
    Stmt,
    Type,
    walk,
)
from dcompile.text import TOKENIZER, open_text
from dcompile.trees import LIMIT, Tree, chain, written
from dcompile.tuning import bound
from dcompile.tuning.search import Choice, Cost, Rates, best_tree, bushes, choose, count, rates, tokens

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
TALLY = "tuned"
CONDENSED = 2048


@dataclass(frozen=True)
class Job:
    """What is tuned: a strategy by its text, the models, the target, prompts (of a `chat`: what a user says) and the
    length of their answers; `quantize` and `activations` as of a build."""

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


@dataclass(frozen=True)
class Trial:
    """What a step of a tree (None: no draft) took, how many tokens it committed, and the rates of its nodes."""

    tree: Tree | None
    seconds: float
    tokens: float
    rates: Rates


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
    if drafts[0].tree.growth is not None:
        raise error(
            "nothing-to-tune", f"the tree of `{strategy.name}` is shaped at the run", "tune one whose tree is fixed"
        )
    if drafts[0].rows is not None:
        title = f"the nodes of `{strategy.name}` carry rows, which cost positions too"
        raise error("nothing-to-tune", title, "a tree file says how many each node carries")
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


def counted(strategy: Strategy) -> Strategy:
    """The strategy with a table of the session: how often each node of its draft was kept."""
    draft = the_draft(strategy)
    at, ints, size = draft.span, Type("int", True), draft.tree.size
    tree = replace(draft.tree, facts=(*draft.tree.facts, (TALLY, tuple(range(size)))))
    index = (NodeFact(ints, at, TALLY),)
    more = Op(ints, at, "add", (Entry(ints, at, TALLY, index), Literal(INT, at, 1)))
    tally = Fill(at, TALLY, index, more, draft.name, Kept(REGION, at, draft.name))
    state = State(TALLY, INT, Literal(INT, at, 0), "session", at, (size,))
    return replace(strategy, states=(*strategy.states, state), body=_counting(strategy.body, tree, tally))


def _counting(body: tuple[Stmt, ...], tree: Tree, tally: Fill) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for stmt in body:
        inner: dict[str, Any] = {
            f.name: _counting(part, tree, tally)
            for f in fields(stmt)
            if isinstance(part := getattr(stmt, f.name), tuple) and part and isinstance(part[0], Stmt)
        }
        changed = replace(stmt, **inner) if inner else stmt
        out += [replace(changed, tree=tree)] if isinstance(changed, Draft) else [changed]
        out += [tally] if isinstance(stmt, Accept) else []
    return tuple(out)


# ---------------------------------------------------------------- seconds and tokens


@contextmanager
def built(job: Job, tree: Tree | None) -> Iterator[Session]:
    """An artifact of the strategy with this tree, which counts its nodes; without one, of plain decoding."""
    models = loaded(job)
    if tree is None:
        strategy = compiler.read("greedy")
        models = {strategy.models[0].name: models[compiler.read(job.source).models[0].name]}
    else:
        strategy = counted(compiler.read(shaped(job.source, tree)))
    order = compiler.Order(job.target, job.max_length, quantize=job.quantize, activations=job.activations)
    with tempfile.TemporaryDirectory() as folder:
        compiler.write(strategy, models, order, Path(folder) / "artifact")
        session = load(Path(folder) / "artifact", job.threads)
        _answer(session, job, job.prompts[0], job.tokens)  # a runtime's first run is not like the others
        yield session


def loaded(job: Job) -> Mapping[str, Model]:
    """The models of a job, read once."""
    places = compiler.named(compiler.read(job.source), job.model)
    return _models(job.source, tuple((name, str(place)) for name, place in places.items()), job.quantize)


@lru_cache(maxsize=1)
def _models(source: Source, places: tuple[tuple[str, str], ...], quantize: str | None) -> Mapping[str, Model]:
    found = compiler.load_all(compiler.read(source), dict(places))
    return {name: compiler.in_blocks(model, quantize) for name, model in found.items()}


def _answer(session: Session, job: Job, prompt: Prompt, tokens: int) -> Answer:
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
    with built(job, tree) as session:
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
    models = loaded(job)
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
    """Try trees, choose, say what that should bring, and measure it; `tell` hears each part as it is known."""
    first = the_draft(compiler.read(job.source)).tree
    straight = first.depth == first.size - 1
    plain = trial(job, None)
    tell(f"1 position: {1000 * plain.seconds:.2f} ms")
    tried: dict[int, Trial] = {}
    for size in sorted(n for n in set(sizes) if 1 < n <= LIMIT):
        tree = chain(size - 1) if straight else best_tree(_foreseen(first, tried), size)
        if tree.size not in tried:
            found = tried[tree.size] = trial(job, tree)
            tell(f"{tree.size} positions: {1000 * found.seconds:.2f} ms, {found.tokens:.2f} tokens a step")
    widest = tried[max(tried)]
    tell("accepted: " + "  ".join(f"{100 * row[0]:.0f} %" for row in widest.rates if row[0] > 0))
    cost = Cost({1: plain.seconds, **{n: t.seconds for n, t in tried.items()}})
    choice = _choice(tried, cost, straight)
    if choice is not None and choice.tree.size not in tried:  # now that it is known, what it commits can be counted
        with built(job, choice.tree) as session:
            choice = replace(choice, tokens=tallied(session, job, choice.tree)[0])
    if choice is None or choice.speedup <= 1:
        return Report(cost.verify, widest.rates, None)
    tell(f"predicted: {choice.tokens:.2f} tokens a step, {choice.speedup:.2f} x plain decoding")
    return Report(cost.verify, widest.rates, choice, alternating(job, choice.tree))


def _foreseen(own: Tree, tried: Mapping[int, Trial]) -> Rates:
    """What is thought of a strategy's children: what was seen last, and of ranks that were not, the prior in proportion
    to the last that was."""
    prior = PRIOR[: max(map(len, own.children))]
    seen = tried[max(tried)].rates if tried else []
    rows = [tuple(r for r in row if r > 0) for row in seen] + [()] * (own.depth - len(seen))
    return [(*row, *(_share(row, prior) * r for r in prior[len(row) :])) for row in rows]


def _share(row: Sequence[float], prior: Sequence[float]) -> float:
    return min(1.0, row[-1] / prior[len(row) - 1]) if row else 1.0


def _choice(tried: Mapping[int, Trial], cost: Cost, straight: bool) -> Choice | None:
    """The fastest of the trees that were tried, and of those between them, foreseen from the next larger one."""
    known = [Choice(t.tree, t.tokens, t.seconds, cost.plain) for t in tried.values() if t.tree is not None]
    widest = max(tried)
    if straight:
        for size in (n for n in range(2, widest) if n not in tried):
            above = tried[min(n for n in tried if n > size)]
            known.append(Choice(chain(size - 1), tokens(chain(size - 1), above.rates), cost.call(size), cost.plain))
    else:
        rated = tried[widest]
        assert rated.tree is not None
        better = choose(bushes(rated.rates, widest, rated.tree.depth), rated.rates, cost)
        known += [better] if better is not None else []
    best = max(known, key=lambda c: c.speedup)
    return best if best.speedup > 1 else None
