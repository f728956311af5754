"""The list tasks: the split, the scoring, and that the committed checkpoint copies lists it never saw."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "list_tasks"))

import evaluate
import list_tokenizer
import llada_model
import tasks
from transformers import PreTrainedTokenizerFast


def test_split_is_disjoint_and_covers_every_pair() -> None:
    training, held_out = tasks.split_pairs()
    assert not set(training) & set(held_out)
    assert len(training) + len(held_out) == len(tasks.FIRST_NAMES) * len(tasks.LAST_NAMES)
    assert {first for first, _ in held_out} <= {first for first, _ in training}


@pytest.mark.parametrize("task", tasks.TASKS)
def test_examples_stay_on_their_side_of_the_split(task: str) -> None:
    held_out = {" ".join(pair) for pair in tasks.split_pairs()[1]}
    assert all(held_out >= {*e.people, *e.target} for e in tasks.make_set(task, 40))
    assert not any(held_out & {*e.people, *e.target} for e in tasks.make_set(task, 40, held_out=False))
    assert tasks.make_set(task, 8) == tasks.make_set(task, 8)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_scoring_takes_the_answer_and_rejects_wrong_ones(task: str) -> None:
    for example in tasks.make_set(task, 20):
        assert tasks.score(example, f"Here it is: {example.answer}.")
        assert not tasks.score(example, example.answer.removesuffix("]"))
        assert not tasks.score(example, tasks.render(example.target[:-1]))
        assert not tasks.score(example, tasks.render([example.target[0], *example.target[:-1]]))


def test_shuffle_takes_every_other_order_but_not_the_input() -> None:
    example = tasks.make_example("shuffle", random.Random(0), held_out=True, length=3)
    assert tasks.score(example, tasks.render(example.people[::-1]))
    assert not tasks.score(example, tasks.render(example.people))


def test_tokenizer_and_fast_encoding_agree() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(llada_model.CHECKPOINT)
    ids = tokenizer.get_vocab()
    for task in tasks.TASKS:
        for example in tasks.make_set(task, 8):
            answer = list_tokenizer.encode_text(example.answer, ids)
            assert tokenizer(example.answer)["input_ids"] == answer
            assert tokenizer.decode([*answer, list_tokenizer.EOS], skip_special_tokens=True) == example.answer
            assert len(answer) < llada_model.ANSWER_LENGTH
            message = [{"role": "user", "content": example.prompt}]
            chat = tokenizer.apply_chat_template(message, return_dict=False)
            assert chat == list_tokenizer.encode_prompt(example.prompt, ids)


def test_checkpoint_copies_held_out_lists_at_one_token_a_step() -> None:
    model = llada_model.load_checkpoint()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(llada_model.CHECKPOINT)
    assert evaluate.accuracy(model, tokenizer, tasks.make_set("copy", 20, seed=1), tokens_per_step=1) >= 0.9
