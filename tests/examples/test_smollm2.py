"""What the trained parts for SmolLM2 learn from: text of its own, a short model, forks, and small networks; on tiny
models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "smollm2"))

import answers
import fitting
import forks
import reading
import shorten

from dcompile.models import Model, load_model
from tests.models.checkpoints import make

torch.set_num_threads(1)
PROMPTS = [[5, 6, 7, 5, 6], [11, 12], [3, 4, 3, 4, 3, 4, 9]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("lm")
    make("llama", folder, num_hidden_layers=4)
    return load_model(folder)


def plainly(model: Model, text: Sequence[int], count: int) -> tuple[list[int], torch.Tensor]:
    """Greedy decoding with no cache; and the hidden states that the tokens were read off."""
    ids, states = list(text), []
    with torch.inference_mode():
        for _ in range(count):
            states.append(model.backbone(input_ids=torch.tensor([ids])).last_hidden_state[0, -1])
            ids.append(int(model.head(states[-1]).argmax()))
            if ids[-1] in model.facts.eos_ids:
                break
    return ids[len(text) :], torch.stack(states)


def test_answers_of_a_batch_are_those_of_greedy_decoding(model: Model) -> None:
    for prompt, answer in zip(PROMPTS, answers.write(model, PROMPTS, 8), strict=True):
        tokens, states = plainly(model, prompt, 8)
        assert (answer.prompt, answer.tokens) == (prompt, tokens)
        torch.testing.assert_close(answer.hidden, states, rtol=1e-4, atol=1e-4)


def test_draws_are_seeded_and_differ_from_greedy_answers(model: Model) -> None:
    def drawn() -> list[list[int]]:
        torch.manual_seed(3)
        return [answer.tokens for answer in answers.write(model, PROMPTS, 8, temperature=2.0)]

    assert drawn() == drawn() != [answer.tokens for answer in answers.write(model, PROMPTS, 8)]


def test_a_model_in_two_parts_is_the_whole(model: Model) -> None:
    bottom = shorten.part(model.backbone, range(3), ended=False)
    top = shorten.part(model.backbone, range(3, 4))
    ids = torch.tensor([PROMPTS[0]])
    with torch.inference_mode():
        lower = bottom(input_ids=ids).last_hidden_state
        found, whole = top(inputs_embeds=lower).last_hidden_state, model.backbone(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def test_the_short_model_learns_and_is_saved_as_a_checkpoint(model: Model, tmp_path: Path) -> None:
    bottom = shorten.part(model.backbone, range(1), ended=False)
    top = shorten.part(model.backbone, range(3, 4))
    learned = shorten.lines(bottom, answers.write(model, PROMPTS, 8))
    table: Any = model.head.weight

    def distance() -> float:
        with torch.no_grad():
            return float(shorten.distance(top, learned, table))

    before = distance()
    torch.manual_seed(0)
    shorten.train(top, learned, table, 30, 3, 5e-3)
    assert distance() < 0.5 * before
    shorten.save(model, bottom, top, tmp_path)
    small, ids = load_model(tmp_path), torch.tensor([PROMPTS[0]])
    assert (small.facts.layers, small.facts.eos_ids) == (2, model.facts.eos_ids)
    with torch.inference_mode():
        want = top(inputs_embeds=bottom(input_ids=ids).last_hidden_state).last_hidden_state
        torch.testing.assert_close(small.backbone(input_ids=ids).last_hidden_state, want, rtol=0.05, atol=0.05)


BEFORE = list(range(100, 130))  # the first one is what was replaced


@pytest.mark.parametrize(
    ("onward", "back"),
    [
        (BEFORE[1:21], True),  # only that token differs
        (BEFORE[0:20], True),  # the other token was put in front
        ([1, 2, 3, *BEFORE[7:20]], True),  # three tokens differ besides, and three are left out
        ([1, 2, 3, 4, 5, *BEFORE[11:20]], False),  # five are left out
        ([1, 2, 3, *BEFORE[4:9], *range(12)], False),  # five agree
        (BEFORE[1:4], False),  # it ends
    ],
)
def test_texts_that_come_back(onward: list[int], back: bool) -> None:
    assert forks.rejoins(BEFORE, onward) is back


def test_what_is_written_behind_a_fork_is_what_the_model_writes_there(model: Model) -> None:
    """Many forks of one text share its stored keys and values, and none sees what stood behind its place."""
    text = [5, 6, 7, 5, 6, 9, 8, 12, 11]
    places = [(2, 40), (5, 41), (5, 42), (8, 43)]
    states, said = forks.onwards(model, text, places)
    for (place, token), state, onward in zip(places, states, said, strict=True):
        tokens, hidden = plainly(model, [*text[:place], token], forks.WINDOW)
        assert onward == tokens
        torch.testing.assert_close(state, hidden[0], rtol=1e-4, atol=1e-4)


def test_the_fates_of_places(model: Model, tmp_path: Path) -> None:
    (answer,) = answers.write(model, PROMPTS[:1], 40)
    assert (forks.read(model, model, answer, 0).fate == forks.SAME).all()
    make("llama", tmp_path, num_hidden_layers=1)
    found = forks.read(model, load_model(tmp_path), answer, 7)
    late = torch.arange(40) >= 40 - forks.WINDOW
    assert set(found.answer.tolist()) == {7}
    assert ((found.fate == forks.UNKNOWN) <= late).all() and (found.fate[late] % forks.UNKNOWN == 0).all()
    asked = (found.fate == forks.BACK) | (found.fate == forks.APART)
    assert asked.any() and (found.large.abs().sum(1) > 0).equal(asked)
    assert (found.chance[asked] < 1).all()  # the large model's own token is another
    forks.save(found, tmp_path / "forks.safetensors")
    torch.testing.assert_close(forks.load(tmp_path / "forks.safetensors").small, found.small, rtol=1e-2, atol=1e-2)


def test_the_model_hears_its_own_answer(model: Model) -> None:
    (answer,) = answers.write(model, PROMPTS[:1], 8)
    logs, own = reading.heard(model, answer.prompt, answer.tokens)
    assert own.all() and logs.shape == (8,)
    assert not reading.heard(model, answer.prompt, [answer.tokens[0] + 1, *answer.tokens[1:]])[1][0]


@pytest.mark.parametrize("widths", [(), (8,)])
def test_a_network_learns_what_separates(widths: tuple[int, ...], tmp_path: Path) -> None:
    """From numbers that are neither centred nor of one size."""
    torch.manual_seed(0)
    hidden = torch.randn(2048, 6) * torch.tensor([1.0, 10, 0.1, 1, 1, 1]) + 5
    yes = hidden[:, 1] > 5
    fitting.save(fitting.fit(hidden, yes, widths, 80, 0.0), tmp_path / "net.safetensors")
    score = fitting.chances(fitting.load(tmp_path / "net.safetensors"), hidden)
    assert ((score > 0.5) == yes).float().mean() > 0.95
    assert fitting.ordered(score, yes) > 0.98


def test_how_often_scores_are_in_order() -> None:
    yes = torch.tensor([True, False, True, False])
    assert fitting.ordered(torch.tensor([0.9, 0.1, 0.8, 0.2]), yes) == 1
    assert fitting.ordered(torch.tensor([0.9, 0.1, 0.3, 0.4]), yes) == 0.75
    assert fitting.ordered(torch.tensor([0.1, 0.9, 0.2, 0.8]), yes) == 0
