"""Strategies with several models, through the commands."""

from __future__ import annotations

from pathlib import Path

from dcompile.artifact import open_artifact
from tests.cli import checkpoint
from tests.cli.command import Command

TINY = Path(__file__).parents[1] / "conformance" / "models" / "tiny-llada"


def test_build_and_verify(command: Command, tmp_path: Path) -> None:
    guide = checkpoint.write(tmp_path / "guide", vocab=512, layers=1)
    given = ("--model", f"lm={TINY}", "--model", f"guide={guide}", "--set", "threshold=0.002")
    assert command("check", "guided", *given, "--max-length", 64).code == 0
    done = command("build", "guided", *given, "--max-length", 64, "-o", tmp_path / "built")
    assert done.code == 0, done.err
    manifest = open_artifact(tmp_path / "built").manifest
    assert manifest.model.mask_id is not None
    assert (manifest.others["guide"].attention, manifest.others["guide"].layers) == ("causal", 1)
    done = command("verify", tmp_path / "built", "-n", 12)
    assert (done.code, done.out.splitlines()[-1]) == (0, "same tokens on 4 prompts"), done.err
    other = checkpoint.write(tmp_path / "other", vocab=512, layers=2)
    wrong = command("verify", tmp_path / "built", "--model", f"lm={TINY}", "--model", f"guide={other}")
    assert wrong.code == 1 and "error[another-model]" in wrong.err


def test_what_is_given_wrong(command: Command, tmp_path: Path) -> None:
    guide = checkpoint.write(tmp_path / "guide", vocab=260)
    out = ("--max-length", 64, "-o", tmp_path / "built")
    codes = {
        "model-not-given": ("--model", TINY),
        "unknown-model": ("--model", f"lm={TINY}", "--model", f"gide={guide}"),
        "unreadable-model": ("--model", f"lm={TINY}", "--model", guide),
        "vocabulary-mismatch": ("--model", f"lm={TINY}", "--model", f"guide={guide}"),
        "attention-mismatch": ("--model", f"lm={TINY}", "--model", f"guide={TINY}"),
    }
    for code, given in codes.items():
        done = command("build", "guided", *given, *out)
        assert done.code == 1 and f"error[{code}]" in done.err, (code, done.err)
