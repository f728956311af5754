"""Evaluate the list-task checkpoint with LLaDA's low-confidence decoding, written in plain torch and transformers.

The whole answer is one block: each forward sees the whole canvas with full attention and commits the k most
confident masked positions (ML-GSAI/LLaDA, generate.py, temperature 0). Prints exact match in per cent for every task
and for k = 1, 2, 4, 8 tokens a step, on lists made of names that were held out of training.

    python examples/list_tasks/evaluate.py --lists 500
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from list_tokenizer import EOS, MASK, encode_prompt
from llada_model import ANSWER_LENGTH, CHECKPOINT, full_attention, load_checkpoint
from tasks import TASKS, Example, make_set, score
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


def blank(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a batch of canvases with masked answers, the places of the answers in each, and the attention mask."""
    lengths = [len(prompt) + ANSWER_LENGTH for prompt in prompts]
    answers = torch.tensor([len(prompt) for prompt in prompts])[:, None] + torch.arange(ANSWER_LENGTH)
    canvas = torch.full((len(prompts), max(lengths)), EOS)
    for row, prompt in enumerate(prompts):
        canvas[row, : len(prompt)] = torch.tensor(prompt)
    canvas.scatter_(1, answers, MASK)
    return canvas, answers, full_attention(canvas, lengths)


@torch.inference_mode()
def decode(model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], tokens_per_step: int) -> torch.Tensor:
    """Decode a batch; return the answers' ids, one row of `ANSWER_LENGTH` per prompt."""
    rows = torch.arange(len(prompts))[:, None]
    canvas, answers, attention = blank(prompts)
    while (canvas[rows, answers] == MASK).any():
        hidden = model.model(input_ids=canvas, attention_mask=attention, use_cache=False).last_hidden_state
        confidence, proposal = model.lm_head(hidden[rows, answers]).double().softmax(-1).max(-1)
        confidence[canvas[rows, answers] != MASK] = -1
        chosen = confidence.topk(tokens_per_step).indices
        canvas[rows, answers.gather(1, chosen)] = proposal.gather(1, chosen)
    return canvas[rows, answers]


def accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    tokens_per_step: int,
    batch: int = 32,
) -> float:
    """Return the share of examples answered rightly; neighbours in length are decoded together."""
    ids = tokenizer.get_vocab()
    pairs = [(encode_prompt(example.prompt, ids), example) for example in examples]
    pairs.sort(key=lambda pair: len(pair[0]))
    right = 0
    for first in range(0, len(pairs), batch):
        part = pairs[first : first + batch]
        answers = decode(model, [prompt for prompt, _ in part], tokens_per_step)
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        right += sum(score(example, text) for (_, example), text in zip(part, texts, strict=True))
    return right / len(pairs)


def share_right(job: tuple[Path, str, int, int, int]) -> float:
    """Evaluate one cell of the table, on one core."""
    folder, task, lists, seed, tokens_per_step = job
    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return accuracy(load_checkpoint(folder), tokenizer, make_set(task, lists, seed), tokens_per_step)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--lists", type=int, default=500, help="lists a task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens-per-step", type=int, nargs="+", default=[1, 2, 4, 8], help="divisors of 24")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    # Freed memory stays with a worker instead of going back to the system and being faulted in again at every step.
    os.environ.update(MALLOC_MMAP_THRESHOLD_="4000000000", MALLOC_TRIM_THRESHOLD_="8000000000")
    start = time.perf_counter()
    print("| task | " + " | ".join(f"{k} a step" for k in args.tokens_per_step) + " |")
    print("|---|" + "---:|" * len(args.tokens_per_step))
    jobs = [(args.checkpoint, task, args.lists, args.seed, k) for task in args.tasks for k in args.tokens_per_step]
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        shares = pool.map(share_right, jobs)
        for task in args.tasks:
            cells = [f"{100 * next(shares):.1f}" for _ in args.tokens_per_step]
            print(f"| {task} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{args.lists} held-out lists a task, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
