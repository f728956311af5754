"""Run the command line in this process."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from dcompile.cli import guarded


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Command:
    """`command("run", ...)` is `dcompile run ...`."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Done:
        self.monkeypatch.setattr(sys, "argv", ["dcompile", *map(str, arguments)])
        self.capsys.readouterr()
        code = guarded()
        return Done(code, *self.capsys.readouterr())
