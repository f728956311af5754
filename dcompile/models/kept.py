"""Models whose weights a build has kept: they lie in the cache as they lie in an artifact, in one file that is mapped
into memory and that artifacts get copies of. Their modules are made only if something asks for them.

Lowering asks for nothing but weights and the graphs of calls that were traced before (`dcompile.trace`); where it needs
more, `Asleep` tells it so, and it begins again with the modules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dcompile import cache
from dcompile.model import Facts

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = ("torch", "transformers")
WEIGHTS, SMALL, NAMES = "weights.safetensors", "small.safetensors", "names.json"
PIECE = 1 << 20  # numbers
TRACED = ("trace", "record", "ops", "program", "transcript")  # modules that trace a call, and write it down


class Asleep(Exception):
    """Something asks for the modules of a model of which only weights are in memory."""


@dataclass(eq=False)
class Kept:
    """A model in the cache: its entry, its weights by the dotted names of backbone and head, and `make`, which gives
    both as modules on these weights, by the names of a checkpoint."""

    entry: str
    weights: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    make: Callable[[Mapping[str, Tensor]], tuple[nn.Module, nn.Module]]
    made: tuple[nn.Module, nn.Module] | None = None
    parts: tuple[Part, Part] = field(init=False)

    def __post_init__(self) -> None:
        self.parts = Part(self, 0), Part(self, 1)

    def awake(self) -> tuple[nn.Module, nn.Module]:
        if self.made is None:
            if _UNDISTURBED.get():
                raise Asleep
            self.made = self.make(self.state)
            _ENTRY.update(dict.fromkeys(self.made, self.entry))
        return self.made


class Part:
    """Stands where the backbone or the head of a kept model stands, and becomes it when anything is asked of it."""

    def __init__(self, kept: Kept, index: int) -> None:
        self._kept, self._index = kept, index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept.awake()[self._index], name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._kept.awake()[self._index](*args, **kwargs)


_UNDISTURBED: ContextVar[bool] = ContextVar("undisturbed", default=False)
_ENTRY: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # the entry of modules that are or may be kept
_STATE: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()  # names in a checkpoint, of a backbone's weights
# Which file, and which byte of it, lies at an address; with the tensor, so that nothing else ever lies there.
_MAPPED: dict[int, tuple[Path, int, Any]] = {}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, a kept model stays asleep: whoever asks for its modules gets `Asleep`."""
    token = _UNDISTURBED.set(True)
    try:
        yield
    finally:
        _UNDISTURBED.reset(token)


def entry_of(module: Any) -> str | None:
    """The entry of the cache that holds, or will hold, the model of a backbone or head."""
    return module._kept.entry if isinstance(module, Part) else _ENTRY.get(module)


def sleeping(module: Any) -> Kept | None:
    """The kept model that a module stands for, if only its weights are in memory."""
    return module._kept if isinstance(module, Part) and module._kept.made is None else None


def real(module: Any) -> Any:
    """The module itself, where something may stand in its place."""
    return module._kept.awake()[module._index] if isinstance(module, Part) else module


def _can_be_kept(facts: Facts) -> bool:
    """Models of several parts are made of modules of our own, and are loaded each time."""
    return facts.attention in ("causal", "full", "block_causal") and bool(facts.fingerprint and cache.entries())


def _entry(facts: Facts) -> str:
    here = Path(__file__).parent
    traced = [here.parent / f"{name}.py" for name in TRACED]
    return cache.key("model", facts.fingerprint, packages=PACKAGES, sources=(*sorted(here.glob("*.py")), *traced))


# ------------------------------------------------------------ keeping


def note(whole: nn.Module, backbone: nn.Module, head: nn.Module, facts: Facts) -> None:
    """Remember of a model that was loaded in full what `keep` asks later."""
    if not _can_be_kept(facts):
        return
    entry = _entry(facts)
    _ENTRY[backbone] = _ENTRY[head] = entry
    dotted = {tensor.data_ptr(): name for name, tensor in reversed(named(backbone, head))}
    _STATE[backbone] = {key: dotted[t.data_ptr()] for key, t in whole.state_dict().items() if t.data_ptr() in dotted}


def named(backbone: nn.Module, head: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by dotted name, a tied one under each of its names."""
    return [
        (f"{prefix}.{name}", tensor)
        for prefix, module in (("model", backbone), ("head", head))
        for name, tensor in [
            *module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)
        ]
    ]  # fmt: skip


def keep(backbone: Any, head: Any, file: Path) -> None:
    """Keep a model's weights by way of an artifact's weights file, if that holds them all and nothing else."""
    if isinstance(backbone, Part) or backbone not in _STATE or not file.is_file():
        return

    def write(folder: Path) -> None:
        from safetensors.torch import save_file

        names, small = places(backbone, head, file)
        cache.copy(file, folder / WEIGHTS)
        save_file(small, folder / SMALL)
        (folder / NAMES).write_text(json.dumps({"names": names, "state": _STATE[backbone]}), encoding="utf-8")

    cache.put(_ENTRY[backbone], write)


def places(backbone: nn.Module, head: nn.Module, file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Under which name the file holds each weight, and the weights that it does not hold since they are small. Raises
    OSError (as what cannot be kept) where the file holds other weights."""
    held = _header(file)
    first: dict[tuple[Any, ...], str] = {}
    names, small = {}, {}
    for name, tensor in named(backbone, head):
        own = first.setdefault((tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()), name)
        names[name] = own
        if own in held:
            if own == name and not _lies_there(tensor, file, *held[own]):
                raise OSError(f"{own} is another tensor in the file")
        elif tensor.numel() > 4096:
            raise OSError(f"{own} is not in the file")
        else:
            small[own] = tensor.detach().contiguous().clone()
    if unknown := held.keys() - set(names.values()):
        raise OSError(f"{min(unknown)} is no weight of the model")
    return names, small


def _header(file: Path) -> dict[str, tuple[int, list[int], str]]:
    """First byte, shape and dtype of each tensor of a safetensors file."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        entries = json.loads(stream.read(size))
    return {n: (8 + size + e["data_offsets"][0], e["shape"], e["dtype"]) for n, e in entries.items()}


def _lies_there(tensor: Tensor, file: Path, offset: int, shape: list[int], dtype: str) -> bool:
    """Whether these are the tensor's numbers, read piece by piece: a mapped file would count as memory."""
    import numpy as np
    import torch

    if list(tensor.shape) != shape or (tensor.dtype, dtype) != (torch.float32, "F32"):
        return False
    numbers = tensor.detach().contiguous().numpy().reshape(-1).view(np.uint32)
    with file.open("rb") as stream:
        stream.seek(offset)
        pieces = range(0, len(numbers), PIECE)
        return all(
            np.array_equal(np.fromfile(stream, np.uint32, min(PIECE, len(numbers) - at)), numbers[at : at + PIECE])
            for at in pieces
        )


# ------------------------------------------------------------ finding


def find(facts: Facts, make: Callable[[Mapping[str, Tensor]], tuple[nn.Module, nn.Module]]) -> Kept | None:
    """The kept model of these facts, if there is one."""
    if not _can_be_kept(facts):
        return None
    entry = _entry(facts)
    folder = cache.find(entry)
    if folder is None:
        return None
    from safetensors.torch import load_file

    held = {**load_file(folder / SMALL), **(large := load_file(folder / WEIGHTS))}
    noted = json.loads((folder / NAMES).read_text(encoding="utf-8"))
    _map(folder / WEIGHTS, large)
    weights = {name: held[place] for name, place in noted["names"].items()}
    return Kept(entry, weights, {key: weights[name] for key, name in noted["state"].items()}, make)


def _map(file: Path, tensors: Mapping[str, Tensor]) -> None:
    header = _header(file)
    for name, tensor in tensors.items():
        _MAPPED[tensor.data_ptr()] = file, header[name][0], tensor


def changed(tensor: Tensor) -> None:
    """A weight's numbers are changed in memory: no file holds them any more."""
    _MAPPED.pop(tensor.data_ptr(), None)


def kept_file(tensors: Iterable[Tensor], header: bytes) -> Path | None:
    """The file of the cache that has this header and these tensors behind it, one after another."""
    at, found = len(header), None
    for tensor in tensors:
        file, offset, _ = _MAPPED.get(tensor.data_ptr(), (None, 0, None))
        if file is None or offset != at or found not in (None, file) or not tensor.is_contiguous():
            return None
        at, found = at + tensor.numel() * tensor.element_size(), file
    if found is None or not found.is_file() or found.stat().st_size != at:
        return None
    with found.open("rb") as stream:
        return found if stream.read(len(header)) == header else None
