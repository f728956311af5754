"""The list tasks as a suite of `dcompile bench`: the question of ParallelBench, what parallel commits cost.

dcompile bench --suite lists --count 100 -o docs/lists
"""

from __future__ import annotations

from functools import partial

from llada_model import ANSWER_LENGTH, CHECKPOINT
from tasks import TASKS, make_set, score

from dcompile.bench.suite import Question, Suite

STRATEGIES = (
    "llada:block=24:steps=24,12,8,6,4,3,2,1",
    "fast_dllm_none:threshold=0.99,0.9,0.7,0.5,0.3",
    "fast_dllm_none:factor=0.5,1,1.5,1.9",
    "eb_sampler:gamma=0.01,0.1,0.5,1,3",
    "local_leap:relaxed=0.75,0.6",
    "hierarchy",
)


def suite(count: int) -> Suite:
    """`count` held-out lists a task."""
    questions = {t: [Question(e.prompt, partial(score, e)) for e in make_set(t, count)] for t in TASKS}
    return Suite(CHECKPOINT, ANSWER_LENGTH, questions, STRATEGIES)
