"""Train Learn2PD's filter for the list-task model, by the published recipe (Bao et al. 2025, "Learning to Parallel").

The model's own answers at one token a step are the references. Each prompt is then decoded once more by an oracle that
unmasks in every step exactly what already agrees with the reference; at each of these steps the confidences of the
block are noted, and which of its tokens are right. The filter, two linear layers with ReLU between, learns to tell the
second from the first (binary cross-entropy, AdamW at 3e-3, the whole set in each epoch). Prompts are of the training
side of the split, all tasks alike; a tenth is kept to choose the epoch, a tenth to report on.

    python examples/learn2pd/train_filter.py            # writes examples/learn2pd/filter.safetensors
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "list_tasks"))

from evaluate import blank, decode
from list_tokenizer import MASK, encode_prompt, token_ids
from llada_model import ANSWER_LENGTH, CHECKPOINT, load_checkpoint
from tasks import TASKS, make_set
from transformers import LlamaForCausalLM

SIZE = 32  # of the filter; a shorter block is filled up with zeros
TASK_SEED = 2  # the sets of seed 0 are those that are evaluated


@dataclass(frozen=True)
class Samples:
    """`confidence` float [N, SIZE] of the block at a step; `right` float [N, SIZE]: 1 where its proposal is final."""

    confidence: Tensor
    right: Tensor

    def part(self, rows: Tensor) -> Samples:
        return Samples(self.confidence[rows], self.right[rows])


@torch.inference_mode()
def record(model: LlamaForCausalLM, prompts: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Decode a batch greedily against its references; (confidence, right, number of the prompt) of all steps."""
    references = decode(model, prompts, 1)
    rows = torch.arange(len(prompts))[:, None]
    canvas, places, attention = blank(prompts)
    before = torch.full_like(references, -1)
    found = []
    while (live := (canvas[rows, places] == MASK).any(1)).any():
        hidden = model.model(input_ids=canvas, attention_mask=attention, use_cache=False).last_hidden_state
        confidence, proposal = model.lm_head(hidden[rows, places]).softmax(-1).max(-1)
        right = proposal == references
        found.append((confidence[live], right[live].float(), rows[live, 0]))
        stuck = (proposal == before).all(1, keepdim=True)  # nothing changes any more: the reference is written
        canvas[rows, places] = torch.where(right | stuck, references, canvas[rows, places])
        before = proposal
    confidence, right, number = (torch.cat(parts) for parts in zip(*found, strict=True))
    return confidence, right, number


def collect(model: LlamaForCausalLM, lists: int, batch: int = 32) -> list[Samples]:
    """The samples of `lists` prompts a task, in tenths: eight to train on, one to choose by, one to report on."""
    ids = token_ids()
    prompts = [encode_prompt(e.prompt, ids) for t in TASKS for e in make_set(t, lists, TASK_SEED, held_out=False)]
    parts: list[list[Samples]] = [[], [], []]
    for first in range(0, len(prompts), batch):
        confidence, right, number = record(model, prompts[first : first + batch])
        whole = Samples(*(nn.functional.pad(x, (0, SIZE - ANSWER_LENGTH)) for x in (confidence, right)))
        tenth = (first + number) % 10
        for part, rows in zip(parts, (tenth < 8, tenth == 8, tenth == 9), strict=True):
            part.append(whole.part(rows))
    return [Samples(torch.cat([s.confidence for s in p]), torch.cat([s.right for s in p])) for p in parts]


def loss_of(network: nn.Module, samples: Samples) -> Tensor:
    """Binary cross-entropy over the positions of the block; what fills it up does not count."""
    logits = network(samples.confidence)[:, :ANSWER_LENGTH]
    return nn.functional.binary_cross_entropy_with_logits(logits, samples.right[:, :ANSWER_LENGTH])


def train(samples: Samples, chosen_by: Samples, epochs: int) -> nn.Module:
    """The network of the epoch with the smallest loss on `chosen_by`, looked at every 100 epochs."""
    network = nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU(), nn.Linear(SIZE, SIZE))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    best, kept = float("inf"), {name: p.clone() for name, p in network.state_dict().items()}
    for epoch in range(1, epochs + 1):
        loss = loss_of(network, samples)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if epoch % 100 == 0:
            with torch.no_grad():
                other = loss_of(network, chosen_by).item()
            if other < best:
                best, kept = other, {name: p.clone() for name, p in network.state_dict().items()}
        if epoch % 2000 == 0:
            print(f"epoch {epoch} loss {loss.item():.4f} best elsewhere {best:.4f}", flush=True)
    network.load_state_dict(kept)
    return network


@torch.no_grad()
def report(network: nn.Module, samples: Samples, accept: float = 0.96) -> str:
    """How much of what is right the filter accepts, and how much of what it accepts is right."""
    accepted = network(samples.confidence).sigmoid()[:, :ANSWER_LENGTH] > accept
    right = samples.right[:, :ANSWER_LENGTH] > 0
    both = (accepted & right).sum().item()
    return (
        f"accepts {both / right.sum().item():.3f} of the right tokens; {both / accepted.sum().item():.4f} of them right"
    )


def main() -> None:
    """Collect, train, report, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "filter.safetensors")
    parser.add_argument("--lists", type=int, default=200, help="prompts a task")
    parser.add_argument("--epochs", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    parts = collect(load_checkpoint(args.checkpoint), args.lists)
    print(f"{[len(part.right) for part in parts]} samples, {time.perf_counter() - start:.0f} s", flush=True)
    network = train(parts[0], parts[1], args.epochs)
    print(f"held out of training: {report(network, parts[2])}; {time.perf_counter() - start:.0f} s in all")
    save_file({name: p.contiguous() for name, p in network.state_dict().items()}, args.out)


if __name__ == "__main__":
    main()
