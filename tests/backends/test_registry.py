"""Targets by name, and what the user is told when one cannot be had."""

from __future__ import annotations

import sys

import pytest

from dcompile.backends import registry
from dcompile.backends.base import Backend
from dcompile.diagnostic import CompileError


def message(name: str) -> str:
    with pytest.raises(CompileError) as caught:
        registry.loader(name)
    return str(caught.value)


def test_every_target_has_both_sides() -> None:
    assert registry.BUILDERS.keys() == registry.LOADERS.keys()
    for name in ("eager", "onnx"):
        backend = registry.builder(name)
        assert isinstance(backend, Backend)
        assert backend.name == name
        assert callable(registry.loader(name))


def test_unknown_target() -> None:
    assert message("onx") == "error[unknown-target]: unknown target `onx`\n  = help: did you mean `onnx`?"
    assert "targets: `cpu`, `cuda`, `eager`, `onnx`, `tvm`" in message("zzzz")


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tvm", None)
    for name in [n for n in sys.modules if n.startswith("dcompile.backends.tvm")]:
        monkeypatch.delitem(sys.modules, name)
    want = "error[missing-package]: target `tvm` needs apache-tvm\n  = help: pip install dcompile[tvm]"
    assert message("tvm") == want


def test_a_bug_of_ours_is_not_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.LOADERS, "onnx", "dcompile.backends.nowhere:load")
    with pytest.raises(ModuleNotFoundError):
        registry.loader("onnx")
