"""`dcompile tune`: the strategy with another tree, what is recorded, what is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcompile import compiler
from dcompile.source import Source
from dcompile.trees import Tree, chain, expand
from dcompile.tuning import laws, shaping, trials
from dcompile.tuning.search import best_tree, count, rates
from dcompile.tuning.tune import PRIOR
from tests.cli.checkpoint import write
from tests.cli.command import Command

BUSH = """strategy bush {
  param k = 4
  model lm: causal
  state table: token[vocab, 4] = 0
  # the answer
  canvas answer = empty(length)
  repeat {
    draft t = expand(2, 2) from last { token = table[parent.token, rank] }
    p = lm(t)
    accept t where token == parent.p.token
    table[t.token] = p.top(4)
  } until eos
}
"""
PROMPTS = "[5, 6, 5, 6, 5]\nabcabc\n"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text(PROMPTS)
    return path


TREES = [chain(1), chain(7), expand(2, 1), best_tree([PRIOR] * 4, 20)]


@pytest.mark.parametrize("name", ["prompt_lookup", "token_recycling", "bush"])
@pytest.mark.parametrize("tree", TREES)
def test_a_strategy_takes_another_tree(name: str, tree: Tree) -> None:
    source = Source("bush.dcs", BUSH) if name == "bush" else compiler.source(name)
    once = shaping.shaped(source, tree)
    assert shaping.the_draft(compiler.read(once)).tree == tree
    again = shaping.shaped(once, expand(3, 1))  # what was tuned can be tuned
    assert shaping.the_draft(compiler.read(again)).tree == expand(3, 1)
    kept = [line for line in source.text.splitlines() if "draft" not in line and "tree" not in line]
    assert [line for line in once.text.splitlines() if line in kept] == kept


def job(llama: Path, source: Source, shelf: Path, length: int = 16, loop: str = "inside") -> trials.Job:
    return trials.Job(source, llama, "onnx", [(5, 6, 5, 6, 5), (9, 8, 7)], length, 1, 96, loop=loop, shelf=shelf)


@pytest.mark.parametrize("loop", ["inside", "step"])
def test_what_the_artifact_counts_is_what_the_oracle_keeps(llama: Path, loop: str, tmp_path: Path) -> None:
    """Tokens a step, and how often each node stayed."""
    tree = expand(3, 2)
    asked = job(llama, Source("bush.dcs", BUSH), tmp_path, 24, loop)
    judged = [told for result in laws.recorded(asked, tree) for told in result.judged]
    made, found = trials.tallied(trials.built(asked, tree), asked, tree)
    stayed = [len(judged), *(sum(node in told.kept for told in judged) for node in range(1, tree.size))]
    assert found == rates(*count(stayed, tree))
    assert made == 48 / len(judged)
    assert len({len(told.kept) for told in judged}) > 1


def test_a_step_is_timed(llama: Path, tmp_path: Path) -> None:
    asked = job(llama, Source("bush.dcs", BUSH), tmp_path)
    spent, steps, made = trials.seconds(trials.built(asked, None), asked)
    assert (steps, made) == (30, 30) and 0 < spent < 10


def test_an_artifact_is_built_once(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job(llama, Source("bush.dcs", BUSH), tmp_path)
    first = trials.built(asked, expand(2, 1))
    monkeypatch.setattr(compiler, "write", None)
    assert trials.built(asked, expand(2, 1)).artifact.folder == first.artifact.folder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A machine whose calls cost what is said here, and on which the choice is as fast as said."""
    said = {"call": 0.01, "position": 0.0, "measured": 1.5}
    cost = lambda session, job, tree: said["call"] + said["position"] * (0 if tree is None else tree.size - 1)  # noqa: E731
    monkeypatch.setattr(trials, "step_seconds", cost)
    monkeypatch.setattr(trials, "alternating", lambda job, tree: (said["measured"],) * 5)
    return said


def test_a_file_is_written_with_its_tree_and_picture(
    command: Command, llama: Path, tmp_path: Path, prompts: Path, clock: dict[str, float]
) -> None:
    source = tmp_path / "bush.dcs"
    source.write_text(BUSH)
    out = tmp_path / "tuned.dcs"
    ask = ("tune", source, "-m", llama, "--prompts", prompts, "-n", 16, "--widest", 8, "--max-length", 96)
    done = command(*ask, "-o", out)
    assert done.code == 0, done.err
    assert "measured 1.50 x" in done.out
    tuned = shaping.the_draft(compiler.read(out)).tree
    assert 2 < tuned.size <= 8 and tuned.depth == 2  # where more positions cost nothing it is as deep as it can be
    assert out.read_text().startswith(f"# Tuned: {tuned.size - 1} drafted tokens")
    assert out.with_suffix(".svg").read_text().count("<circle") == tuned.size
    again = command(*ask, "-o", out)
    assert again.code == 1 and "error[output-exists]" in again.err


@pytest.mark.parametrize(("position", "measured"), [pytest.param(0.01, 1.5, marks=pytest.mark.slow), (0.0, 0.93)])
def test_do_not_speculate(
    command: Command,
    llama: Path,
    tmp_path: Path,
    prompts: Path,
    clock: dict[str, float],
    position: float,
    measured: float,
) -> None:
    """Neither where it is predicted to be slower nor where it turns out to be."""
    clock.update(position=position, measured=measured)
    out = tmp_path / "tuned.dcs"
    ask = ("tune", "prompt_lookup", "-m", llama, "--prompts", prompts, "-n", 16, "--widest", 4, "--max-length", 96)
    done = command(*ask, "-o", out)
    assert done.code == 0, done.err
    assert "do not speculate" in done.out
    assert not out.exists()
    told = json.loads(command(*ask, "--json").out)
    assert told["verdict"] == "do not speculate" and (told["predicted"] is None) == (position > 0)


def test_the_bound(command: Command, llama: Path, tmp_path: Path, prompts: Path) -> None:
    small = write(tmp_path / "small", layers=1)
    done = command(
        "tune", "speculative", "-m", f"lm={llama}", "-m", f"small={small}", "--prompts", prompts, "-n", 8,
        "--max-length", 96, "--bound", 2, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    one, two = json.loads(done.out)["acceptance"]
    assert one["rejection"] == pytest.approx(one["optimal, sample"], abs=1e-6)
    assert 0 < two["recursive"] <= two["kseq"] <= two["optimal, sample"] <= two["optimal, distinct"] <= 1


def test_the_bound_of_scores(command: Command, llama: Path, tmp_path: Path, prompts: Path) -> None:
    """Heads have a distribution where their guesses are drawn."""
    drawn = BUSH.replace("token = table[parent.token, rank]", "scores = lm.head(lm.embedding(parent.token))")
    (tmp_path / "drawn.dcs").write_text(drawn)
    ask = ("tune", tmp_path / "drawn.dcs", "-m", llama, "--prompts", prompts, "-n", 8, "--max-length", 96)
    done = command(*ask, "--bound", 2, "--json")
    assert done.code == 0, done.err
    one, two = json.loads(done.out)["acceptance"]
    assert one["rejection"] == pytest.approx(one["optimal, sample"], abs=1e-6)
    assert 0 < two["recursive"] <= two["optimal, sample"] <= two["optimal, distinct"] <= 1


def test_what_cannot_be_tuned(command: Command, llama: Path) -> None:
    done = command("tune", "greedy", "-m", llama)
    assert done.code == 1 and "error[nothing-to-tune]: `greedy` drafts nothing" in done.err
    done = command("tune", "opt_tree", "-m", f"lm={llama}", "-m", f"small={llama}")
    assert done.code == 1 and "error[nothing-to-tune]: the tree of `opt_tree` is shaped at the run" in done.err
    done = command("tune", "multi_token", "-m", llama)
    assert done.code == 1 and "error[nothing-to-tune]: the nodes of `multi_token` carry rows" in done.err
    done = command("tune", "prompt_lookup", "-m", llama, "--bound", 2)
    assert done.code == 1 and "error[nothing-to-bound]" in done.err
    assert command("tune", "prompt_lookup").code == 1
