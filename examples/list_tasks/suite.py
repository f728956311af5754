"""The list tasks as a suite of `dcompile bench`: the question of ParallelBench, what parallel commits cost.

dcompile bench --suite lists --count 100 -o docs/lists
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from list_tokenizer import encode_prompt, token_ids
from llada_model import ANSWER_LENGTH, CHECKPOINT
from tasks import TASKS, make_set, score

from dcompile.bench.suite import Question, Suite

FILTER = os.path.relpath(Path(__file__).parents[1] / "learn2pd" / "filter.safetensors")
STRATEGIES = (
    "llada:block=24:steps=24,12,6,3,1",
    "fast_dllm_none:threshold=0.9,0.7,0.5,0.3",
    "fast_dllm_none:factor=0.5,1,1.9",
    "eb_sampler:gamma=0.1,0.5,1,3",
    "local_leap:relaxed=0.75,0.6",
    "klass",
    "hierarchy",
    "wino",
    f"learn2pd:block=24:filter={FILTER}:accept=0.96,0.5",
)


def suite(count: int) -> Suite:
    """`count` held-out lists a task."""
    sets = {task: make_set(task, count) for task in TASKS}
    ids = token_ids()
    room = ANSWER_LENGTH + max(len(encode_prompt(e.prompt, ids)) for examples in sets.values() for e in examples)
    questions = {t: [Question(e.prompt, partial(score, e)) for e in examples] for t, examples in sets.items()}
    return Suite(CHECKPOINT, ANSWER_LENGTH, room, questions, STRATEGIES)
