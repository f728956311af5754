"""Learn2PD's filter for the list-task model: what it is trained on, that it learns, that the committed one helps."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "list_tasks"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "learn2pd"))

import list_tokenizer
import llada_model
import tasks
import train_filter

from dcompile.compiler import read
from dcompile.models import load_model
from dcompile.reference.oracle import run

torch.set_num_threads(1)


def prompts(task: str, count: int) -> list[list[int]]:
    ids = list_tokenizer.token_ids()
    return [list_tokenizer.encode_prompt(e.prompt, ids) for e in tasks.make_set(task, count, held_out=False)]


def test_a_recording_ends_where_all_is_right() -> None:
    confidence, right, number = train_filter.record(llada_model.load_checkpoint(), prompts("shuffle", 4))
    assert confidence.shape == right.shape == (len(number), llada_model.ANSWER_LENGTH)
    assert ((confidence > 0) & (confidence <= 1)).all()
    for prompt in range(4):
        steps = right[number == prompt]
        assert 1 <= len(steps) <= llada_model.ANSWER_LENGTH


def test_what_the_model_is_sure_of_takes_one_step() -> None:
    _, right, number = train_filter.record(llada_model.load_checkpoint(), prompts("copy", 4))
    assert right.all()
    assert sorted(number.tolist()) == [0, 1, 2, 3]


def test_training_finds_what_separates() -> None:
    torch.manual_seed(0)
    confidence = torch.rand(64, train_filter.SIZE)
    samples = train_filter.Samples(confidence, (confidence > 0.5).float())
    untrained = train_filter.train(samples, samples, 0)
    network = train_filter.train(samples, samples, 600)
    assert train_filter.loss_of(network, samples) < 0.3 * train_filter.loss_of(untrained, samples)


def test_the_committed_filter_saves_calls_and_keeps_the_answer() -> None:
    model = load_model(llada_model.CHECKPOINT)
    (prompt,) = prompts("reverse", 1)
    committed = str(Path(train_filter.__file__).parent / "filter.safetensors")
    answers = {
        name: run(read(name, settings), model, prompt, length=24)
        for name, settings in (("llada", {"block": 24, "steps": 24}), ("learn2pd", {"block": 24, "filter": committed}))
    }
    assert answers["learn2pd"].tokens == answers["llada"].tokens
    assert 2 * answers["learn2pd"].model_calls < answers["llada"].model_calls == 24
