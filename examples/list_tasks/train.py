"""Train the list-task model with LLaDA's objective (objective.py), seeded, on the CPU.

Each worker process computes on one core with its share of every batch. The learning rates are constant after a short
warm-up and fall linearly, once in each of `CYCLES`; what the steps train on changes too (`objective.PHASES`).

    python examples/list_tasks/train.py            # writes examples/list_tasks/checkpoint
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp
from list_tokenizer import token_ids
from llada_model import CHECKPOINT, llama_config, save_checkpoint
from muon import Muon
from objective import PHASES, Row, batch_loss, draw_batch
from torch import distributed as dist
from torch import nn
from transformers import LlamaForCausalLM

CYCLES = ((0, 1450, 1.0, 0.62), (1450, 1750, 0.4, 0.0), (1750, 4000, 1.0, 0.65))
"""Of the learning rates: first step, end, peak, and the share of the steps before the rate falls (linearly, to 0)."""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--state", type=Path, help="file to keep the training state in, and to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=PHASES[-1].until)
    parser.add_argument("--batch", type=int, default=64, help="examples a step, over all workers")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--micro", type=int, default=16, help="rows a forward; a batch is cut by length")
    parser.add_argument("--lr", type=float, default=0.015, help="of the matrices (Muon)")
    parser.add_argument("--adam-lr", type=float, default=0.003, help="of embeddings, output head and norms (AdamW)")
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--mlp", type=int, default=448)
    parser.add_argument("--theta", type=float, default=1000.0)
    return parser.parse_args()


def make_optimizers(model: LlamaForCausalLM, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, fused AdamW for everything else."""
    inner = {name: p for name, p in model.named_parameters() if p.dim() == 2 and "layers" in name}
    others = [p for name, p in model.named_parameters() if name not in inner]
    adam = torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [Muon(list(inner.values()), lr=args.lr), adam]


def rate(step: int, args: argparse.Namespace) -> float:
    """Return the factor of the learning rates: in a cycle a linear rise (to a full peak), a constant part, a fall."""
    begin, end, peak, constant = next((c for c in CYCLES if step < c[1]), (CYCLES[-1][0], args.steps, *CYCLES[-1][2:]))
    rise = (step - begin + 1) / args.warmup if peak == 1 else 1.0
    return peak * min(1.0, rise, (end - step) / ((1 - constant) * (end - begin)))


def restore(path: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]) -> tuple[int, float]:
    """Load a saved training state; return the number of steps done and the seconds spent on them."""
    done, spent, weights, states = torch.load(path)
    model.load_state_dict(weights)
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(state)
    return done, spent


def train_step(
    model: LlamaForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    rows: list[Row],
    rng: random.Random,
    micro: int,
    step: int,
) -> float:
    """Make one step on this worker's rows and every other worker's; return the loss of this worker's rows."""
    loss_sum = 0.0
    for first in range(0, len(rows), micro):
        loss = batch_loss(model, rows[first : first + micro], rng, step) * micro / len(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        loss_sum += loss.item()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients]) / dist.get_world_size()
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss_sum


def worker(rank: int, args: argparse.Namespace, meeting_point: str) -> None:
    """Train as one of several equal processes; the first one reports and writes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=args.workers)
    torch.manual_seed(args.seed)
    ids = token_ids()
    model = LlamaForCausalLM(llama_config(args.width, args.layers, args.heads, args.mlp, args.theta, len(ids)))
    optimizers = make_optimizers(model, args)
    begin, spent, shown = 0, 0.0, 0.0
    if args.state and args.state.exists():
        begin, spent = restore(args.state, model, optimizers)
    start = time.perf_counter() - spent
    for step in range(begin, args.steps):
        for optimizer, base in zip(optimizers, (args.lr, args.adam_lr), strict=True):
            optimizer.param_groups[0]["lr"] = base * rate(step, args)
        rng = random.Random(f"{args.seed}/{rank}/{step}")
        rows = draw_batch(args.batch // args.workers, rng, ids, step)
        shown += train_step(model, optimizers, rows, rng, args.micro, step) / 50
        if rank == 0 and (step + 1) % 50 == 0:
            spent = time.perf_counter() - start
            print(f"step {step + 1} loss {shown:.4f} {spent:.0f} s", flush=True)
            shown = 0.0
            if args.state:
                torch.save((step + 1, spent, model.state_dict(), [o.state_dict() for o in optimizers]), args.state)
    if rank == 0:
        save_checkpoint(model, args.out)
        print(f"{model.num_parameters():,} parameters, {(time.perf_counter() - start) / 60:.1f} minutes")


def main() -> None:
    """Start the workers."""
    args = parse_args()
    # Freed memory stays with a worker instead of going back to the system and being faulted in again at every step.
    os.environ.update(MALLOC_MMAP_THRESHOLD_="4000000000", MALLOC_TRIM_THRESHOLD_="8000000000")
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (args, f"{folder}/meet"), nprocs=args.workers)  # type: ignore[attr-defined, no-untyped-call]


if __name__ == "__main__":
    main()
