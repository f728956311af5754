"""The benchmark's own arithmetic, and that its plain loops and the artifacts say the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "bench"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "list_tasks"))

import autoregression
import list_tokenizer
import llada_model
import loops
import race
import report
import stepping
import tasks
import texts
import torch
from typer.main import get_command

from dcompile.cli import app
from dcompile.compiler import read
from dcompile.models import load_model
from dcompile.reference.oracle import run as oracle

torch.set_num_threads(1)


def run(engine: str, turn: int, whole: float, tokens: list[int], kind: str = "code") -> race.Run:
    return race.Run(engine, kind, turn, [1, 2, 3], tokens, whole, 0.5, len(tokens), 1e8)


RUNS = [
    run("a", 0, 1.0, [4, 5, 6]), run("b", 0, 2.0, [4, 5, 6]),
    run("a", 1, 2.0, [4, 5, 6]), run("b", 1, 2.0, [4, 5, 7]),
    run("a", 2, 1.0, [7, 8, 9]), run("b", 2, 3.0, [7, 8, 9]),
    run("a", 0, 1.0, [7, 8, 9], "chat"), run("c", 0, 0.5, [7, 8, 9], "chat"),
]  # fmt: skip


def test_a_ratio_is_the_median_over_rounds_that_both_ran() -> None:
    assert race.ratio(RUNS, "a", "b") == 2.0
    assert race.ratio(RUNS, "a", "c") == 0.5
    assert race.ratio(RUNS, "b", "c") is None
    assert race.ratio(RUNS, "a", "b", "chat") is None


def test_pairs_that_were_not_raced_have_no_row() -> None:
    rows = report.pairs(RUNS, {"a": ("b", "c"), "b": ("c",)})
    assert rows[1:] == [["a, to b", "2.00", "2.00", "", ""], ["a, to c", "0.50", "", "0.50", ""]]


def test_agreement_counts_rounds() -> None:
    assert race.agreement(RUNS, "a", "b") == (2, 3)
    assert race.agreement(RUNS, "c", "a") == (1, 1)


def test_a_step_leaves_the_first_token_out() -> None:
    assert RUNS[0].step == pytest.approx(0.25)
    assert race.median(RUNS, "b", lambda r: r.whole) == 2.0


def test_what_repeats() -> None:
    assert texts.repeated([1, 2, 3, 4], [9, 1, 2, 3, 8]) == pytest.approx(1 / 5)
    assert texts.repeated([1, 2, 3], [1, 2, 3, 1, 2, 3]) == pytest.approx(4 / 6)
    assert texts.repeated([1], []) == 0.0


def test_a_table_has_a_row_an_engine(tmp_path: Path) -> None:
    head, *rows = report.speeds(RUNS[:6], {"b": "a"})
    assert [row[0] for row in rows] == ["a", "b"] and all(len(row) == len(head) for row in rows)
    assert rows[1][-1] == "2 of 3" and rows[0][-1] == ""
    report.draw(RUNS, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 1000
    report.write_json(tmp_path / "bench.json", {"ratios": {"a": 1.0}})
    assert json.loads((tmp_path / "bench.json").read_text()) == {"ratios": {"a": 1.0}}


def test_a_page_keeps_its_prose(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{report.BEGIN}\n\nold\n\n{report.END}\n\nafter\n")
    report.replace_part(page, "new")
    assert page.read_text() == f"before\n\n{report.BEGIN}\n\nnew\n\n{report.END}\n\nafter\n"
    report.replace_part(page, "newer")
    assert "old" not in page.read_text() and page.read_text().count("newer") == 1


@pytest.mark.parametrize(("loop", "strategy"), [("none", "fast_dllm_none"), ("dual", "fast_dllm_dual")])
def test_the_plain_loops_are_the_strategies(loop: str, strategy: str) -> None:
    """On the list model, whose answers have no end of text in the way: one block, ended by the canvas."""
    parts = llada_model.load_checkpoint()
    model = loops.Model(parts, list_tokenizer.MASK, loops.forward)
    example = tasks.make_set("reverse", 1, held_out=True)[0]
    prompt = list_tokenizer.encode_prompt(example.prompt, list_tokenizer.token_ids())
    tokens, calls = loops.LOOPS[loop](model, prompt, 24)
    result = oracle(read(strategy), load_model(llada_model.CHECKPOINT), prompt, length=24)
    assert (tokens, calls) == (list(result.tokens[len(prompt) :]), result.model_calls)


def test_builds_ask_for_options_that_there_are() -> None:
    build = get_command(app).commands["build"]  # type: ignore[attr-defined]
    known = {name for option in build.params for name in option.opts}
    asked = {*autoregression.CODES, *autoregression.ROUND, *stepping.OPTIONS}
    assert {word for word in asked if word.startswith("-")} <= known
