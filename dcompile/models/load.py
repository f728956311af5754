"""Checkpoints into modules. Only stock transformers classes are run, never code that lies in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dcompile.diagnostic import CompileError, error
from dcompile.model import Facts
from dcompile.models import kept
from dcompile.models.adapters import Adapter, adapter_of
from dcompile.models.base import Model
from dcompile.models.facts import read_facts, unsupported
from dcompile.models.gguf import read_header
from dcompile.models.gguf_facts import gguf_config
from dcompile.models.places import find_checkpoint, read_json, weight_files
from dcompile.models.tokenizers import tokenizer_files
from dcompile.stopwatch import part

if TYPE_CHECKING:  # torch takes seconds to import, and `read_facts` shares this package
    from torch import Tensor, nn

    from dcompile.models.blocks import Blocks

K = TypeVar("K")
V = TypeVar("V")

WRONG = {"missing_keys": "lacking", "mismatched_keys": "of another shape", "unexpected_keys": "unknown"}


def load_model(path: str | Path) -> Model:
    """Load the model at `path` (folder, GGUF file, folder with a GGUF file, hub id) in float32 on the CPU.

    Raises CompileError: unknown-checkpoint, unreadable-checkpoint, unsupported-architecture.
    """
    place = find_checkpoint(path)
    with part("fingerprint"):
        facts = read_facts(place)
    with part("kept weights"):
        found = kept.find(facts, lambda weights: _modules(place, facts, weights)[1:])
    backbone: Any
    head: Any
    if found is not None:
        backbone, head = found.parts
    else:
        whole, backbone, head = _modules(place, facts)
        kept.note(whole, backbone, head, facts)
    folder = place.parent if place.is_file() else place
    with part("tokenizer"):
        files = _files_or_none(place)
    return Model(facts, backbone, head, folder, files, _blocks(place, facts, backbone, head))


def _modules(
    place: Path, facts: Facts, weights: Mapping[str, Tensor] | None = None
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The model as modules, and its backbone and head; on `weights`, which were checked before, or on its own."""
    with part("imports"):
        from dcompile.models.canvas import split_canvas
        from dcompile.models.permuted import split_permuted
        from dcompile.models.probe import check_modules, split

    with _no_progress_bars():
        whole = _load_gguf(place, facts, weights) if place.is_file() else _load_folder(place, facts, weights)
    whole = whole.eval().requires_grad_(False)
    if facts.attention == "canvas":
        return whole, *split_canvas(whole, facts)
    if facts.attention == "permutation":
        return whole, *split_permuted(whole, facts)
    backbone, head = split(whole, facts)
    if weights is None:
        with part("trying it"):
            check_modules(whole, backbone, head, facts)
    return whole, backbone, head


def _blocks(place: Path, facts: Facts, backbone: nn.Module, head: nn.Module) -> Mapping[int, Blocks]:
    """What a GGUF file holds in blocks, by the address of the float weight; read when it is first asked for."""
    if not place.is_file():
        return {}

    def read() -> dict[int, Blocks]:
        from dcompile.models.gguf_weights import read_blocks

        with part("reading blocks"):
            found = read_blocks(read_header(place), facts.heads, facts.kv_heads)
        weights = {f"model.{name}": weight for name, weight in backbone.named_parameters()}
        weights |= {f"lm_head.{name}": weight for name, weight in head.named_parameters()}
        return {weight.data_ptr(): found[name] for name, weight in weights.items() if name in found}

    return Later(read)


class Later(Mapping[K, V]):
    """A mapping that is made when something of it is first asked for."""

    def __init__(self, make: Callable[[], Mapping[K, V]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Mapping[K, V]:
        return self._make()

    def __getitem__(self, key: K) -> V:
        return self._made[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _files_or_none(place: Path) -> tuple[Path, ...]:
    try:
        return tokenizer_files(place)
    except CompileError:  # ids in, ids out needs no tokenizer; whoever needs one asks tokenizer_files
        return ()


def _load_folder(folder: Path, facts: Facts, weights: Mapping[str, Tensor] | None) -> nn.Module:
    raw = read_json(folder / "config.json", needed=True)
    adapter = adapter_of(facts.family)
    try:
        if adapter is None or adapter.is_stock:
            return _load_stock(folder, facts, weights)
        return _load_adapted(folder, raw, adapter, weights)
    except (OSError, RuntimeError, KeyError, TypeError) as problem:
        raise _unreadable(folder, problem) from problem


def _unreadable(place: Path, problem: object) -> CompileError:
    first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    return error("unreadable-checkpoint", f"cannot load `{place}`: {first}")


def _load_stock(folder: Path, facts: Facts, weights: Mapping[str, Tensor] | None) -> nn.Module:
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **where)
        if weights is not None:
            return _on_weights(folder, config, weights)
        loader: Any = AutoModelForCausalLM
        if facts.attention == "canvas":
            loader = transformers.DiffusionGemmaForBlockDiffusion
        model, report = loader.from_pretrained(
            folder, config=config, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **where
        )
    except ValueError as problem:  # transformers says so of a type or class that it does not know
        raise unsupported(facts.family, "transformers has no causal language model class for it") from problem
    _complain(folder, {**report, "unexpected_keys": ()})  # published folders carry leftovers of training
    return model  # type: ignore[no-any-return]


def _load_adapted(
    folder: Path, raw: dict[str, Any], adapter: Adapter, weights: Mapping[str, Tensor] | None
) -> nn.Module:
    return _from_weights(folder, adapter.family, adapter.config(raw), weights or _read_adapted(folder, adapter))


def _read_adapted(folder: Path, adapter: Adapter) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        if file.suffix != ".safetensors":
            raise _unreadable(folder, "weights in this format are read from *.safetensors only")
        try:
            weights |= {adapter.rename(name): value.float() for name, value in load_file(file).items()}
        except Exception as problem:  # safetensors' own error type derives from Exception alone
            raise _unreadable(file, problem) from problem
    return weights


def _load_gguf(file: Path, facts: Facts, weights: Mapping[str, Tensor] | None) -> nn.Module:
    from dcompile.models.gguf_weights import read_weights

    header = read_header(file)
    if weights is None:
        with part("reading weights"):
            weights = read_weights(header, facts.heads, facts.kv_heads)
    config = gguf_config(header)
    return _from_weights(file, config.pop("model_type"), config, weights)


def _from_weights(place: Path, family: str, entries: dict[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    """The stock class of a family filled with `weights`: every weight used, none missing."""
    with part("imports"):
        from transformers import AutoConfig

    return _on_weights(place, AutoConfig.for_model(family, **entries), weights)


def _on_weights(place: Path, config: Any, weights: Mapping[str, Tensor]) -> nn.Module:
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    loader: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with part("modules"):
        model, report = loader.from_pretrained(
            None, config=config, state_dict=dict(weights), dtype=torch.float32, attn_implementation="eager",
            output_loading_info=True,
        )  # fmt: skip
    _complain(place, report)
    return model  # type: ignore[no-any-return]


def _complain(place: Path, report: dict[str, Any]) -> None:
    for key, what in WRONG.items():
        if names := sorted(str(name) for name in report[key]):
            raise _unreadable(place, f"weights {what}: {', '.join(names[:4])}")
