"""Functions that a strategy takes from Python files (`extern rule`): loading them, and what they may return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dcompile.diagnostic import CompileError, Diagnostic, Label
from dcompile.strategy import Extern, Type

DTYPES = {"int": torch.int64, "float": torch.float32, "bool": torch.bool, "token": torch.int64}
HELP = "it takes `live` (bool [positions]) and the arguments as tensors, and is made of torch operations alone"


def function(extern: Extern) -> Callable[..., Any]:
    """The function of an extern rule; its file is run once, as a module of its own. Raises CompileError."""
    space: dict[str, Any] = {"__name__": f"extern_{extern.name}"}
    try:
        exec(compile(extern.text, extern.path, "exec"), space)
    except Exception as e:
        raise _wrong(extern, f"`{extern.path}` cannot be run: {_first(e)}") from e
    found: Callable[..., Any] = space[extern.function]
    return found


def called(extern: Extern, run: Callable[..., Any], live: Tensor, given: Sequence[Tensor], vocab: int) -> Tensor:
    """What the function returns for one row, `live` [positions] and its arguments. Raises CompileError."""
    try:
        found = run(live, *given)
    except Exception as e:
        if type(e).__name__ == "DataDependentOutputException":
            title = f"`{extern.name}` asks for the value of a tensor, which a graph does not know"
            help = "`torch.where` in place of `if`, no `.item()`, no loop over what is found"
            raise CompileError(
                [Diagnostic("wrong-extern", title, Label(extern.span, "declared here"), help=help)]
            ) from e
        raise _wrong(extern, f"`{extern.name}` fails on its arguments: {_first(e)}") from e
    wanted = shape(extern.given, live.shape[0], vocab)
    dtype = DTYPES[extern.given.base]
    if not isinstance(found, Tensor):
        raise _wrong(extern, f"`{extern.name}` returns no tensor, but {type(found).__name__}")
    if tuple(found.shape) != wanted or found.dtype != dtype:
        title = f"`{extern.name}` is declared {_shaped(wanted, dtype)}, and returns {_shaped(found.shape, found.dtype)}"
        raise _wrong(extern, title)
    return found


def shape(type: Type, positions: int, vocab: int) -> tuple[int, ...]:
    """The shape of one row's value."""
    return (positions,) * type.each + (vocab,) * type.wide


def _shaped(shape: Sequence[int], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"


def _first(problem: Exception) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def _wrong(extern: Extern, title: str) -> CompileError:
    return CompileError([Diagnostic("wrong-extern", title, Label(extern.span, "declared here"), help=HELP)])
