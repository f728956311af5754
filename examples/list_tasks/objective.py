"""The masked-diffusion objective in its fine-tuning form (Nie et al., "Large Language Diffusion Models", LLaDA).

The prompt is never masked. The answer is padded with <eos> to a fixed length; one ratio t ~ U(0, 1) is drawn per
example, every answer token is masked with probability t, and the loss is the mean cross-entropy over masked tokens.
(LLaDA's weight 1/t was left out: over so short a training it mainly adds variance.)
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from list_tokenizer import EOS, MASK, encode_prompt, encode_text
from llada_model import ANSWER_LENGTH, full_attention
from tasks import FIRST_NAMES, LAST_NAMES, make_example
from torch import nn
from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class Phase:
    """What the steps before `until` train on: the share of each task, and of the rows that mask names alone."""

    until: int
    weights: dict[str, float]
    names_alone: float


PHASES = (
    Phase(
        850,
        {"copy": 1.0, "reverse": 1.2, "sort": 1.2, "insert": 1.2, "remove": 1.2, "replace": 1.0, "shuffle": 0.4},
        0.0,
    ),
    Phase(
        1750,
        {"copy": 1.2, "reverse": 1.0, "sort": 0.3, "insert": 1.1, "remove": 1.6, "replace": 1.4, "shuffle": 0.2},
        0.5,
    ),
    Phase(
        4000,
        {"copy": 0.6, "reverse": 0.6, "insert": 1.1, "remove": 1.0, "replace": 0.8, "shuffle": 3.0, "insert_any": 1.4},
        0.7,
    ),
)
NAMES = len(FIRST_NAMES) + len(LAST_NAMES)  # they are the last ids of the vocabulary
Row = tuple[list[int], list[int]]


def phase_of(step: int) -> Phase:
    """Return the phase that `step` belongs to; the last one has no end."""
    return next((phase for phase in PHASES if step < phase.until), PHASES[-1])


def draw_batch(count: int, rng: random.Random, ids: dict[str, int], step: int) -> list[Row]:
    """Draw (prompt, answer) id pairs of the training side, sorted by length."""
    weights = phase_of(step).weights
    names = rng.choices(list(weights), list(weights.values()), k=count)
    rows = []
    for name in names:
        example = make_example(name, rng, held_out=False)
        answer = encode_text(example.answer, ids)
        rows.append((encode_prompt(example.prompt, ids), answer + [EOS] * (ANSWER_LENGTH - len(answer))))
    return sorted(rows, key=lambda row: len(row[0]))


def corrupt(
    rows: list[Row], rng: random.Random, vocab: int, phase: Phase
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return padded inputs with masked answers, the targets, and which positions are masked.

    In a share of the rows only names are masked: decoding commits signs and padding first, so answers of which only
    names are open are what the model meets most.
    """
    width = len(rows[-1][0]) + ANSWER_LENGTH
    targets = torch.full((len(rows), width), EOS)
    masked = torch.zeros(len(rows), width, dtype=torch.bool)
    start = rng.random()
    ratios = [(start + i / len(rows)) % 1 for i in range(len(rows))]  # t ~ U(0, 1), evenly spread within a batch
    rng.shuffle(ratios)
    for row, ((prompt, answer), ratio) in enumerate(zip(rows, ratios, strict=True)):
        end = len(prompt) + ANSWER_LENGTH
        targets[row, :end] = torch.tensor(prompt + answer)
        least = vocab - NAMES if rng.random() < phase.names_alone else 0
        masked[row, len(prompt) : end] = torch.tensor([rng.random() < ratio and token >= least for token in answer])
    return targets.masked_fill(masked, MASK), targets, masked


def batch_loss(model: LlamaForCausalLM, rows: list[Row], rng: random.Random, step: int) -> torch.Tensor:
    """Return the summed cross-entropy over masked tokens, divided by the expected number of masked tokens."""
    inputs, targets, masked = corrupt(rows, rng, model.config.vocab_size, phase_of(step))
    attention = full_attention(inputs, [len(prompt) + ANSWER_LENGTH for prompt, _ in rows])
    hidden = model.model(input_ids=inputs, attention_mask=attention, use_cache=False).last_hidden_state
    total = nn.functional.cross_entropy(model.lm_head(hidden[masked]), targets[masked], reduction="sum")
    return total / (len(rows) * ANSWER_LENGTH / 2)
