"""What a drafter says beside what the target does: the laws that the oracle meets, and what rules could accept."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcompile import compiler
from dcompile.diagnostic import error
from dcompile.text import TOKENIZER, open_text
from dcompile.trees import Tree
from dcompile.tuning import bound
from dcompile.tuning.shaping import shaped, the_draft
from dcompile.tuning.trials import Job, loaded

if TYPE_CHECKING:
    from dcompile.models import Model
    from dcompile.reference import Result

CONDENSED = 2048


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
    if not the_draft(strategy).draws:
        help = "a draft `by` a model has one, and one of `scores`"
        raise error("nothing-to-bound", "the draft has no distribution to compare with", help)
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
