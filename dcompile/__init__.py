"""A compiler for decoding strategies: `build` makes an artifact from a strategy and a model, `load` opens one.

Names are imported when they are first asked for: an app that only runs artifacts never imports torch or Lark.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dcompile.version import VERSION as __version__

if TYPE_CHECKING:
    from dcompile.compiler import build as build
    from dcompile.diagnostic import CompileError as CompileError
    from dcompile.diagnostic import Diagnostic as Diagnostic
    from dcompile.session import Result as Result
    from dcompile.session import Session as Session
    from dcompile.session import load as load

_HOME = {
    "build": "dcompile.compiler",
    "load": "dcompile.session",
    "Session": "dcompile.session",
    "Result": "dcompile.session",
    "CompileError": "dcompile.diagnostic",
    "Diagnostic": "dcompile.diagnostic",
}
__all__ = ["CompileError", "Diagnostic", "Result", "Session", "__version__", "build", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dcompile' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
