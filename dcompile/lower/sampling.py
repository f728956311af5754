"""From logits to a token: penalties, bans, temperature, top-k, top-p, min-p, and one draw by the inverse CDF."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower import forcing
from dcompile.lower.context import Context, Dist, Nodes, either
from dcompile.lower.ending import is_eos
from dcompile.lower.regions import present_end
from dcompile.lower.threefry import uniform
from dcompile.ops import FLOOR
from dcompile.record import constant


def controlled(ctx: Context) -> Tensor:
    """Whether any control that can change a greedy token is on, bool [1]."""
    i = ctx.inputs
    rows = (i["penalty"] != 1.0) | (i["min_length"] > 0)
    return either(rows) | (i["banned"].to(torch.int64).sum(0, keepdim=True) > 0)


def narrowed(ctx: Context) -> Tensor:
    """Whether any of top-k, top-p and min-p is on, bool [1]."""
    i = ctx.inputs
    return either((i["top_k"] > 0) | (i["top_p"] < 1.0) | (i["min_p"] > 0.0))


def processed(ctx: Context, dist: Dist, logits: Tensor) -> Tensor:
    """Logits [B, n, V] after the repetition penalty, banned tokens and the minimum length, in transformers' order."""
    vocab = logits.shape[-1]
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    end = present_end(ctx, dist.canvas).reshape(-1, 1)
    written = (slots >= ctx.inputs["pad"].reshape(-1, 1)) & (slots < end) & ~dist.canvas["masked"]
    said = torch.where(written, dist.canvas["tokens"], vocab)
    seen = torch.scatter(torch.zeros(ctx.batch, vocab + 1), 1, said, 1.0)[:, :vocab].unsqueeze(1) > 0
    done = (written & (slots >= ctx.inputs["start"].reshape(-1, 1))).to(torch.int64).sum(1, keepdim=True)
    if isinstance(dist.frame, Nodes):
        seen = seen | _said_above(dist.frame, vocab)
        done = done + dist.frame.depths
    penalty = ctx.inputs["penalty"].reshape(-1, 1, 1)
    logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
    early = (done < ctx.inputs["min_length"].reshape(-1, 1)).unsqueeze(-1)
    eos = is_eos(ctx, torch.arange(vocab)).reshape(1, 1, -1)
    return torch.where(ctx.inputs["banned"].reshape(1, 1, -1) | (early & eos), FLOOR, logits)


def _said_above(nodes: Nodes, vocab: int) -> Tensor:
    """Which tokens stand at a node or between it and the root, bool [B, n, V]."""
    batch, n = nodes.tokens.shape
    if nodes.grown is not None:
        above = nodes.grown.above
    else:
        paths = [set(nodes.tree.ancestors[i]) for i in nodes.nodes]
        above = constant([[a in path for a in range(n)] for path in paths])
    tokens = torch.where(above, nodes.tokens.unsqueeze(1), vocab)
    tokens = torch.where(tokens < 0, vocab, tokens)
    return torch.scatter(torch.zeros(batch, nodes.width, vocab + 1), 2, tokens, 1.0)[:, :, :vocab] > 0


def warped(ctx: Context, logits: Tensor) -> Tensor:
    """Logits [B, n, V] with everything outside top-k, top-p and min-p taken out (set to FLOOR)."""
    batch, n, vocab = logits.shape
    flat = logits.reshape(batch * n, vocab)
    order = torch.ops.dcompile.order(flat)
    ranked = torch.gather(flat, 1, order).reshape(batch, n, vocab)
    k = ctx.inputs["top_k"].reshape(-1, 1, 1)
    kth = torch.gather(ranked, 2, (torch.clamp(k, 1, vocab) - 1).expand(batch, n, 1))
    ranked = torch.where((k > 0) & (ranked < kth), FLOOR, ranked)
    probs = torch.softmax(ranked, -1)
    before = probs.cumsum(-1) - probs
    first = torch.arange(vocab).reshape(1, 1, -1) == 0
    keep = ((before < ctx.inputs["top_p"].reshape(-1, 1, 1)) | first) & (ranked > FLOOR)
    kept = torch.softmax(torch.where(keep, ranked, FLOOR), -1)
    keep = keep & (kept >= ctx.inputs["min_p"].reshape(-1, 1, 1) * kept[:, :, :1])
    back = torch.scatter(torch.zeros(batch * n, vocab, dtype=torch.bool), 1, order, keep.reshape(batch * n, vocab))
    return torch.where(back.reshape(batch, n, vocab), logits, FLOOR)


def draw(probs: Tensor, u: Tensor) -> Tensor:
    """Tokens [B, n] by the inverse CDF in token order from probabilities [B, n, V] and uniforms [B, n]."""
    vocab = probs.shape[-1]
    passed = (probs.cumsum(-1) <= u.unsqueeze(-1)).to(torch.int64).sum(-1)
    last = vocab - 1 - torch.argmax(torch.flip((probs > 0).to(torch.int64), [-1]), -1)
    return torch.minimum(passed, last)


def propose(
    ctx: Context, dist: Dist, logits: Tensor, temperature: Tensor, position: Tensor, visit: Tensor | None
) -> Tensor:
    """Tokens [B, n]: the argmax at temperature 0, otherwise a draw with the call's stream at these positions."""

    def plain() -> list[Tensor]:  # the choice of the token stands inside: a branch that hands logits on copies them
        return [torch.argmax(logits, -1)]

    def adjusted() -> list[Tensor]:
        return [torch.argmax(processed(ctx, dist, logits), -1)]

    if not ctx.rng:
        return ctx.recorder.branch(controlled(ctx), adjusted, plain)[0]
    assert visit is not None
    warm = either(temperature > 0)

    def sampled() -> list[Tensor]:
        plain = processed_if(ctx, dist, logits)
        t = temperature.reshape(-1, 1, 1)
        cooled = plain / torch.where(t > 0, t, 1.0)
        (narrow,) = ctx.recorder.branch(narrowed(ctx), lambda: [warped(ctx, cooled)], lambda: [torch.clone(cooled)])
        u = uniform(ctx.inputs["seed"].reshape(-1, 1), dist.site, position, visit)
        drawn = draw(torch.softmax(narrow, -1), u)
        drawn = forcing.forced(ctx, dist.site, position, visit, drawn)
        return [torch.where(temperature.reshape(-1, 1) > 0, drawn, torch.argmax(plain, -1))]

    # the plain choice first and by itself: backends need not make all logits for it
    return ctx.recorder.branch(warm | controlled(ctx), lambda: ctx.recorder.branch(warm, sampled, adjusted), plain)[0]


def processed_if(ctx: Context, dist: Dist, logits: Tensor) -> Tensor:
    """`processed`, only when a control asks for it."""
    yes, no = (lambda: [processed(ctx, dist, logits)]), (lambda: [torch.clone(logits)])
    return ctx.recorder.branch(controlled(ctx), yes, no)[0]


def warped_if(ctx: Context, dist: Dist, logits: Tensor, temperature: Tensor) -> Tensor:
    """The logits whose softmax is the warped distribution; at temperature 0 without dividing."""
    t = temperature.reshape(-1, 1, 1)
    cooled = processed_if(ctx, dist, logits) / torch.where(t > 0, t, 1.0)
    return ctx.recorder.branch(narrowed(ctx), lambda: [warped(ctx, cooled)], lambda: [torch.clone(cooled)])[0]
