"""`dcompile bench`: what is measured, and what is left in the folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dcompile.bench.measure import Score
from dcompile.bench.points import points
from dcompile.bench.report import Report, table
from dcompile.bench.suite import open_suite
from dcompile.diagnostic import CompileError
from tests.cli.command import Command

SUITE = """\
from pathlib import Path
from dcompile.bench.suite import Question, Suite

def suite(count):
    right = [Question(f"Copy the line : [Albin Ashley, Tila Oakwick]", lambda text: "Albin" in text)] * count
    wrong = [Question(f"Copy the line : [Albin Ashley, Tila Oakwick]", lambda text: False)] * count
    return Suite(Path({model!r}), 16, 48, {{"right": right, "wrong": wrong}}, ("llada:block=16:steps=16,4",))
"""
CHECKPOINT = Path(__file__).parents[2] / "examples" / "list_tasks" / "checkpoint"


def test_values_between_commas_make_a_line() -> None:
    found = points("llada:block=24:steps=24,12")
    assert [str(p) for p in found] == ["llada block=24 by steps: steps=24", "llada block=24 by steps: steps=12"]
    assert found[1].settings == (("block", "24"), ("steps", "12"))
    (alone,) = points("hierarchy")
    assert (str(alone), alone.settings) == ("hierarchy", ())
    assert len(points("a:x=1,2:y=3,4")) == 4


def test_the_list_suite_asks_every_task() -> None:
    suite = open_suite("lists", 3)
    assert {len(questions) for questions in suite.tasks.values()} == {3}
    question = suite.tasks["copy"][0]
    assert question.right(question.text.partition(":")[2])
    assert not question.right("[Nobody Else]")
    assert all(points(text) for text in suite.strategies)


@pytest.mark.parametrize(
    ("code", "name", "text"),
    [("no-suite", "nothing", None), ("no-suite", "nothing.py", None), ("bad-suite", "empty.py", "x = 1\n")],
)
def test_a_suite_that_is_none(tmp_path: Path, code: str, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(CompileError) as e:
        open_suite(str(tmp_path / name) if name.endswith(".py") else name, 1)
    assert e.value.diagnostics[0].code == code
    assert str(tmp_path) not in sys.path


def test_a_point_that_is_none() -> None:
    with pytest.raises(CompileError) as e:
        points("llada:steps")
    assert e.value.diagnostics[0].code == "bad-point"


def test_bench_writes_tables_and_plots(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SUITE.format(model=str(CHECKPOINT)))
    done = command("bench", "--suite", tmp_path / "mine.py", "-n", 2, "-o", tmp_path / "out", "--threads", 1)
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [p["at"] for p in results["points"]] == ["steps=16", "steps=4"]
    for point, calls in zip(results["points"], (16, 4), strict=True):
        assert point["tasks"]["right"] | {"seconds": 0} == {
            "right": 2, "asked": 2, "tokens": 32, "calls": 2 * calls, "seconds": 0,
        }  # fmt: skip
        assert point["tasks"]["wrong"]["right"] == 0
    assert (tmp_path / "out" / "trade-off.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "out" / "trade-off.html").read_text()
    assert (
        "| llada block=16 by steps | steps=4 | 100 | 0 | 50.0 | 4.00 |" in (tmp_path / "out" / "README.md").read_text()
    )


def test_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    scores = [(p, {"copy": Score(1, 2, 24, 12, 0.5)}) for p in points("llada:steps=2,1")]
    report = Report("title", "dcompile bench", "a machine", scores)
    for folder in ("a", "b"):
        report.write(tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert list(table(scores))[1] == ["llada by steps", "steps=2", "50", "50.0", "2.00", "0.5"]
