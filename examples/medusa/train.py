"""Train Medusa's heads for SmolLM2 on text of its own (Cai et al. 2024, "Medusa", heads alone: Medusa-1).

The model answers prompts greedily. Each head learns, from the hidden state that a token was read off, which token came
so many places later: head k the one k + 1 behind it. A head is one residual block, h + SiLU(W h + b), in front of the
model's own frozen head; W and b begin at 0, so that it begins as the model's own guess of the next token.
Cross-entropy times 0.8^k over the tokens that occur, AdamW at 1e-3 with a cosine, all in float32. Prompts: chats on
made-up topics; a twentieth of the answers is kept to report on.

    python examples/medusa/train.py                # writes examples/medusa/heads.safetensors
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dcompile.models import load_model

sys.path.insert(0, str(Path(__file__).parents[1] / "smollm2"))

from answers import ASKS, MODEL, TOPICS, Answer, chats, collect

HERE = Path(__file__).parent
SEED, HEADS, LENGTH = 7, 4, 64


@dataclass(frozen=True)
class Samples:
    """Hidden states [N, E] and, of each, the tokens [N, HEADS] behind the next one; -1 where the answer has ended."""

    hidden: Tensor
    later: Tensor


def samples_of(answer: Answer) -> Samples:
    """What the model had in mind before each token but the last, and which tokens came later."""
    count = len(answer.tokens) - 1
    said = torch.tensor(answer.tokens + [-1] * HEADS)
    later = torch.stack([said[k + 1 : k + 1 + count] for k in range(HEADS)], 1)
    return Samples(answer.hidden[:count], later)


class Head(nn.Module):
    """The residual block of one head."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        return h + nn.functional.silu(self.linear(h))


def joined(parts: list[Samples]) -> Samples:
    return Samples(torch.cat([p.hidden for p in parts]), torch.cat([p.later for p in parts]))


def train(samples: Samples, table: Tensor, number: Tensor, epochs: int, batch: int) -> list[Head]:
    """`table` [U, E]: the head's rows of the tokens that occur; `number` [V]: which row a token has."""
    heads = [Head(samples.hidden.shape[1]) for _ in range(HEADS)]
    weights = [p for head in heads for p in head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0)
    steps = epochs * math.ceil(len(samples.hidden) / batch)
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 0.5 * (1 + math.cos(math.pi * n / steps)))
    begun = time.time()
    for epoch in range(epochs):
        total = torch.zeros(HEADS)
        for rows in torch.randperm(len(samples.hidden)).split(batch):
            hidden, later = samples.hidden[rows], samples.later[rows]
            losses = []
            for k, head in enumerate(heads):
                wanted = torch.where(later[:, k] >= 0, number[later[:, k].clamp(min=0)], -100)
                losses.append(nn.functional.cross_entropy(head(hidden) @ table.T, wanted))
            optimizer.zero_grad()
            sum((0.8**k * loss for k, loss in enumerate(losses)), torch.zeros(())).backward()
            optimizer.step()
            plan.step()
            total += torch.stack(losses).detach() * len(rows)
        means = ", ".join(f"{x:.2f}" for x in (total / len(samples.hidden)).tolist())
        print(f"epoch {epoch + 1}: losses {means}, {time.time() - begun:.0f} s", flush=True)
    return heads


@torch.inference_mode()
def report(heads: list[Head], samples: Samples, table: Tensor, number: Tensor) -> None:
    """How often the token is the head's first guess, and among its first five, on answers kept aside."""
    for k, head in enumerate(heads):
        there = samples.later[:, k] >= 0
        wanted = number[samples.later[there, k]]
        ranked = (head(samples.hidden[there]) @ table.T).topk(5).indices == wanted[:, None]
        print(f"head {k}: right {ranked[:, 0].float().mean():.1%}, among five {ranked.any(1).float().mean():.1%}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--chats", type=int, default=64, help="at most 288")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64, help="answers written at a time")
    parser.add_argument("-o", type=Path, default=HERE / "heads.safetensors")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    random.seed(SEED)
    model = load_model(options.model)
    pairs = random.sample(list(itertools.product(ASKS, TOPICS)), options.chats)
    asked = chats(model, [ask.format(topic) for ask, topic in pairs])
    answers = [samples_of(answer) for answer in collect(model, asked, LENGTH, batch=options.batch)]
    random.shuffle(answers)
    kept = len(answers) // 20
    learned, aside = joined(answers[kept:]), joined(answers[:kept])
    weight: Tensor = model.head.weight  # type: ignore[assignment]
    seen = torch.cat([learned.later, aside.later]).unique()
    seen = seen[seen >= 0]
    number = torch.zeros(model.facts.vocab, dtype=torch.int64).scatter(0, seen, torch.arange(len(seen)))
    table = weight.detach()[seen].clone()
    print(
        f"{len(learned.hidden)} samples, {len(seen)} tokens occur, {len(aside.hidden)} samples kept aside", flush=True
    )
    heads = train(learned, table, number, options.epochs, 256)
    report(heads, aside, table, number)
    tensors = {f"{k}.{n}": p.detach().half().contiguous() for k, h in enumerate(heads) for n, p in h.named_parameters()}
    save_file(tensors, options.o)
    print(f"wrote {options.o}")


if __name__ == "__main__":
    main()
