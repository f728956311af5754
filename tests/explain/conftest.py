from __future__ import annotations

import pytest

from tests.cli.command import Command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("DCOMPILE_DEBUG", raising=False)
    return Command(monkeypatch, capsys)
