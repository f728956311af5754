"""Keys that are forgotten: the program is the oracle's, and an attention of matrices says the same."""

from __future__ import annotations

import math

import pytest
import torch

from dcompile.controls import Controls
from dcompile.lower import lower
from dcompile.passes.pipeline import optimise
from dcompile.reference import run
from dcompile.reference.threefry import uniform
from dcompile.strategy import KEYS, Strategy
from tests.passes.rows import EOS, compiled, model, read

LENGTH = 9
PROMPTS = [(12, 13, 14, 3, 8, 20, 21), (5, 6, 5, 6, 5)]


def program(words: str) -> Strategy:
    return read(f"""strategy s {{
  model lm: causal
  canvas answer = empty(length)
  repeat {{
    p = lm(last) {words}
    append p.token
  }} until eos
}}""")


def oracle(strategy: Strategy, prompt: tuple[int, ...], seed: int = 3) -> tuple[int, ...]:
    return run(strategy, model(), prompt, length=LENGTH, sampling=Controls(eos_ids=(EOS,), seed=seed)).output_ids


FORGETTING = {
    "keys and recent ones": "with keys 2 with recent 2",
    "the last ones alone": "with keys 0 with recent 2",
    "keys alone": "with keys 3 with recent 0",
    "hot": "with keys 2 with recent 1 with heat 1 + 0.5 * count(answer)",
    "by the prompt": "with keys floor(0.4 * count(prompt)) with recent 1",
}


@pytest.mark.parametrize("name", FORGETTING)
def test_a_batch_and_the_oracle_agree(name: str) -> None:
    strategy = program(FORGETTING[name])
    made = lower(strategy, model(), batch=2, capacity=20)
    got = [row.answer for row in compiled(made, PROMPTS, LENGTH, seed=3)]
    assert got == [oracle(strategy, prompt, 3 + r) for r, prompt in enumerate(PROMPTS)]
    assert got != [oracle(read("greedy"), prompt) for prompt in PROMPTS]


def test_the_passes_leave_the_tokens() -> None:
    strategy = program(FORGETTING["hot"])
    made = optimise(lower(strategy, model(), batch=1, capacity=20))
    assert compiled(made, PROMPTS[:1], LENGTH, seed=3)[0].answer == oracle(strategy, PROMPTS[0])


def test_what_forgets_nothing_is_greedy_decoding() -> None:
    strategy = program("with keys 99 with recent 0")
    assert [oracle(strategy, p) for p in PROMPTS] == [oracle(read("greedy"), p) for p in PROMPTS]


def test_the_noise_is_the_seed_s() -> None:
    strategy = program("with keys 1 with recent 1")
    assert len({oracle(strategy, PROMPTS[0], seed) for seed in range(6)}) > 1


def eager(prompt: tuple[int, ...], keys: int, recent: int, rise: float, seed: int) -> tuple[int, ...]:
    """Keyformer anew: all tokens are fed in each step, with a mask for each layer, head and query, and the scores of
    the whole are added up from matrices of attention."""
    lm = model()
    backbone = lm.backbone
    layers, heads, groups = 2, 4, 2
    tokens, many = list(prompt), len(prompt)
    noise = torch.tensor([-math.log(-math.log(uniform(seed, KEYS, i, 0))) for i in range(many + LENGTH)])
    gone_at = torch.full((layers, groups, many + LENGTH), 10**6)  # the first query that does not see a key
    for _ in range(LENGTH):
        size = len(tokens)
        x = backbone.embed_tokens(torch.tensor([tokens]))
        cos, sin = backbone.rotary_emb(x, position_ids=torch.arange(size)[None])
        rows, columns = torch.arange(size)[:, None], torch.arange(size)[None]
        heat = 1 + rise * (rows - many + 1).clamp(min=0)
        scores = torch.zeros(layers, groups, size)
        for number, layer in enumerate(backbone.layers):
            hidden = layer.input_layernorm(x)
            q, k, v = (
                getattr(layer.self_attn, f"{n}_proj")(hidden)[0].reshape(size, -1, 4).transpose(0, 1) for n in "qkv"
            )
            q, k = (a * cos + torch.cat([-a[..., 2:], a[..., :2]], -1) * sin for a in (q, k))
            k, v = k.repeat_interleave(heads // groups, 0), v.repeat_interleave(heads // groups, 0)
            hidden_keys = (columns > rows) | (rows >= gone_at[number, :, None, :size])
            logits = (q @ k.transpose(1, 2) / 2).masked_fill(
                hidden_keys.repeat_interleave(heads // groups, 0), -math.inf
            )
            warm = torch.softmax((logits + noise[:size]) / heat, -1)
            scores[number] = warm.reshape(groups, -1, size).sum(1)
            seen = (torch.softmax(logits, -1) @ v).transpose(0, 1).reshape(1, size, -1)
            x = x + layer.self_attn.o_proj(seen)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        for number in range(layers):
            for group in range(groups):
                left = [i for i in range(size - recent) if gone_at[number, group, i] > size]
                left.sort(key=lambda i: (-float(scores[number, group, i]), i))
                for i in left[keys:]:
                    gone_at[number, group, i] = size
        tokens.append(int(lm.head(backbone.norm(x))[0, -1].argmax()))
        if tokens[-1] == EOS:
            break
    return tuple(tokens[many:])


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(("keys", "recent", "rise"), [(2, 2, 0.0), (3, 1, 0.2), (0, 3, 0.0)])
@torch.no_grad()
def test_an_attention_of_matrices_says_the_same(prompt: tuple[int, ...], keys: int, recent: int, rise: float) -> None:
    strategy = program(f"with keys {keys} with recent {recent} with heat 1 + {rise} * count(answer)")
    assert oracle(strategy, prompt) == eager(prompt, keys, recent, rise, seed=3)
