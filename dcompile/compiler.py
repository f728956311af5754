"""From a strategy and a model to an artifact: the map of the system."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcompile import cache, whereabouts
from dcompile.artifact import MODULES, RULES, TREES, Artifact, check_free, new_folder, seal
from dcompile.backends import registry
from dcompile.backends.base import BLOCKS
from dcompile.diagnostic import CompileError, error, suggest
from dcompile.manifest import describe
from dcompile.model import Facts
from dcompile.source import Source
from dcompile.stopwatch import part
from dcompile.strategy import Strategy, overhang
from dcompile.text import TEMPLATE, TOKENIZER

if TYPE_CHECKING:
    from dcompile.backends.base import Backend
    from dcompile.models import Model
    from dcompile.passes.base import Pass, Stage
    from dcompile.program import Program

CAPACITY = 1024  # --max-length where nothing is said and the model can
LOOPS = ("inside", "block", "step")
QUANTISED = (*BLOCKS, "bfloat16")
ACTIVATIONS = ("float32", "int8")
Observer = Callable[[str, str, "Program", float], None]  # (stage, pass, the program after it, seconds)


@dataclass(frozen=True)
class Order:
    """What is asked of a build, apart from the strategy and the model. `quantize`: int4, int4-symmetric, int8 or
    bfloat16 matrices; `activations` int8: products may round what is multiplied with them to eight bits. `machine`:
    what code is compiled for, where not for this one."""

    target: str = "onnx"
    max_length: int | None = None
    batch: int = 1
    loop: str = "inside"
    rng: bool = True
    without: tuple[str, ...] = ()
    limit: int | None = None
    draws: int = 0  # for tests: see `lower`
    quantize: str | None = None
    activations: str = "float32"
    machine: str | None = None


@dataclass(frozen=True)
class Step:
    """A part of a build that has been done; `nodes` counts the operations of the program after it."""

    name: str
    seconds: float
    nodes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Watch:
    """Who is told of a build: `tell` of each step, `observers` of each program."""

    tell: Callable[[Step], None] = lambda step: None
    observers: tuple[Observer, ...] = ()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a part of the build that makes no program."""
        began = time.perf_counter()
        with part(name):
            yield
        self.tell(Step(name, time.perf_counter() - began))

    def after_pass(self, stage: str, item: Pass, program: Program, seconds: float) -> None:
        """An observer of the passes' door."""
        self.program(stage, str(item), program, seconds)

    def program(self, stage: str, name: str, program: Program, seconds: float) -> None:
        """Tell of a program that has been made."""
        from dcompile.program import count_nodes

        self.tell(Step(f"{stage}/{name}" if name else stage, seconds, count_nodes(program)))
        for observe in self.observers:
            observe(stage, name, program, seconds)


def build(
    strategy: str | Path | Source,
    model: str | Path | Mapping[str, str | Path],
    out: str | Path,
    target: str = "onnx",
    *,
    settings: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    batch: int = 1,
    loop: str = "inside",
    rng: bool = True,
    without: Iterable[str] = (),
    limit: int | None = None,
    quantize: str | None = None,
    activations: str = "float32",
    machine: str | None = None,
    force: bool = False,
    watch: Watch | None = None,
    keep: str | Path | None = None,
) -> Artifact:
    """Compile a strategy for a model into the folder `out`, which `load` can open.

    `model`: a checkpoint, or one for each model that the strategy names, by name.
    `strategy`: a path, the name of a standard one, or a text. `max_length`: room for prompt and answer. `loop`: where
    the loop is cut. `rng=False` leaves out the random generator. `without`: passes to leave out; `limit`: how many to
    run. `quantize`: `int4` or `int8` for matrices in blocks; those of a GGUF file are taken as they are.
    `int4-symmetric` rounds those with offsets, too, to steps around 0: the fastest, and further from the checkpoint.
    `bfloat16`, for `cpu` and `cuda`: linear layers but the head, and what they multiply, in that type.
    `activations`: `int8` lets products round what they multiply such matrices with. `machine`: what the target `tvm`
    compiles for: `aarch64-linux-gnu`, `aarch64-linux-gnu:cortex-a76`, `c` for C source; else for this machine. `keep`:
    the folder where builds keep weights and traces for later ones, or `off`; else what DCOMPILE_CACHE says, or the
    user's cache folder.
    Raises CompileError for whatever the user can mend; then `out` is as it was before.
    """
    order = Order(
        target, max_length, batch, loop, rng, tuple(without), limit, quantize=quantize, activations=activations,
        machine=machine,
    )  # fmt: skip
    watch = watch or Watch()
    check_free(Path(out), force)
    backend_for(order)
    with cache.chosen(keep):
        with watch.step("check"):
            checked = read(strategy, settings)
        with watch.step("model"):
            loaded = {name: in_blocks(found, quantize) for name, found in load_all(checked, model).items()}
        return write(checked, loaded, order, Path(out), watch, force)


def write(
    strategy: Strategy, models: Mapping[str, Model], order: Order, out: Path, watch: Watch | None = None,
    force: bool = False,
) -> Artifact:  # fmt: skip
    """Compile a checked strategy for loaded models, `in_blocks` where the order says so, into the folder `out`."""
    from dcompile.models import kept

    watch, backend = watch or Watch(), backend_for(order)
    program = compile(strategy, models, order, backend, watch)
    if missing := backend.missing(program):
        raise CompileError(missing)
    with watch.step(f"emit/{order.target}"), new_folder(out, force) as folder:
        files = backend.build(program, folder)
        with part("checksums"):
            _copy_texts(folder, strategy, first(strategy, models))
            described = describe(
                program, order.target, files, order.rng, order.quantize, order.activations, backend.machine
            )
            artifact = seal(folder, described)
    with part("keeping"):
        main = first(strategy, models)
        kept.keep(main.backbone, main.head, out / "weights.safetensors")
    return Artifact(out, artifact.manifest)


def compile(
    strategy: Strategy, model: Model | Mapping[str, Model], order: Order, backend: Backend, watch: Watch
) -> Program:
    """All between a checked strategy and the backend: lower, passes, cut, the backend's own stages."""
    with part("imports"):
        from dcompile.lower import lower
        from dcompile.models import by_name
        from dcompile.passes.facts import cache_traffic
        from dcompile.passes.pipeline import PASSES, optimise

    if unknown := [name for name in order.without if name not in PASSES]:
        raise error("unknown-pass", f"there is no pass `{unknown[0]}`", suggest(unknown[0], PASSES, "passes"))
    models = by_name(strategy, model)
    check_models(strategy, {name: m.facts for name, m in models.items()})
    began = time.perf_counter()
    behind = _overhang(strategy, order, backend)
    room = capacity(order, models.values()) + behind
    with part("lower"):
        chunk = backend.chunk(list(models.values()), order.batch, room)
        program = lower(
            strategy, models, batch=order.batch, capacity=room, rng=order.rng, draws=order.draws, chunk=chunk,
            overhang=behind,
        )  # fmt: skip
    watch.program("lower", "", program, time.perf_counter() - began)
    legal = (*_quantise(order, models), *backend.stages)
    without = (*order.without, *(("capture-cache",) if order.loop in backend.in_place else ()))
    with part("passes"):
        program = optimise(
            program, order.loop, legal=legal, without=without, limit=order.limit, observers=[watch.after_pass]
        )
    carried, whole = cache_traffic(program)
    note = f"{carried:,} of {whole:,} bytes of keys and values are copied each step, as a loop carries them"
    watch.tell(Step("caches", 0.0, note=note))
    return program


def in_blocks(model: Model, quantize: str | None) -> Model:
    """The model as it is asked for, its matrices rounded where the checkpoint does not hold them in blocks. Once for a
    model: its weights are changed."""
    if quantize is None:
        return model
    from dcompile.models.rounding import rounded

    return rounded(model, quantize)


def _quantise(order: Order, models: Mapping[str, Model]) -> tuple[Stage, ...]:
    """What puts rounded matrices in the place of floats."""
    if order.quantize is None:
        return ()
    from dcompile.passes.base import Stage
    from dcompile.passes.halve import Halve
    from dcompile.passes.quantise import Quantise

    if order.quantize not in BLOCKS:
        return (Stage("weights", (Halve(frozenset(m.facts.vocab for m in models.values())),)),)
    blocks = {place: found for model in models.values() for place, found in model.blocks.items()}
    return (Stage("weights", (Quantise(blocks, order.activations == "int8"),)),)


def capacity(order: Order, models: Iterable[Model]) -> int:
    """Slots of the canvas: `--max-length`, or what each model can, up to CAPACITY."""
    most = min(model.facts.max_positions for model in models)
    if order.max_length is not None and order.max_length > most:
        title = f"--max-length {order.max_length} is more than the {most} positions of the model"
        raise error("option-out-of-range", title, f"use at most {most}")
    return order.max_length or min(CAPACITY, most)


def _overhang(strategy: Strategy, order: Order, backend: Backend) -> int:
    """Slots that chains of drafts need where a host keeps the caches: their rows are written there before it is known
    which of them stay."""
    return overhang(strategy) if order.loop == "step" and order.batch == 1 and "step" in backend.in_place else 0


def read(strategy: str | Path | Source, settings: Mapping[str, Any] | None = None) -> Strategy:
    """A checked strategy from a path, the name of a standard one, or a text."""
    with _installed():
        from dcompile.dsl import checker, load

    return checker.require(load(strategy if isinstance(strategy, Source) else source(strategy), settings))


def source(strategy: str | Path) -> Source:
    """Where a strategy is written: a `.dcs` file, the standard library (a bare name), or the string itself."""
    with _installed():
        from dcompile import dsl

    if isinstance(strategy, str) and ("{" in strategy or "\n" in strategy):
        return Source("<strategy>", strategy)
    path = Path(strategy)
    if path.suffix != ".dcs" and len(path.parts) == 1 and not path.exists():
        return dsl.standard(str(strategy))
    try:
        return Source.read(path)
    except UnicodeDecodeError as e:
        raise error("unreadable-strategy", f"`{path}` is not UTF-8 text: {e.reason}") from e
    except OSError as e:
        help = "give a .dcs file, or a name that `dcompile strategies` lists"
        raise error("unreadable-strategy", f"`{path}` cannot be read: {e.strerror}", help) from e


def check_models(strategy: Strategy, facts: Mapping[str, Facts]) -> None:
    """Refuse models that lack what the strategy needs, pointing at their `model` lines."""
    from dcompile.dsl import checker

    if wrong := checker.check_models(strategy, facts):
        raise CompileError(wrong)


def facts(model: str | Path) -> Facts:
    """What a checkpoint's configuration says; its weights are not read."""
    with _installed():
        from dcompile.models import read_facts

    return read_facts(model, hashed=False)


def all_facts(strategy: Strategy, model: str | Path | Mapping[str, str | Path]) -> dict[str, Facts]:
    """The facts of a strategy's models by name; where one checkpoint alone is given, of the first."""
    if isinstance(model, Mapping):
        return {name: facts(place) for name, place in named(strategy, model).items()}
    return {strategy.models[0].name: facts(model)}


def load(model: str | Path) -> Model:
    """A model from a checkpoint folder or a GGUF file; `verify` finds it again by its fingerprint."""
    with _installed():
        with part("imports"):
            from dcompile.models import load_model
            from dcompile.models.probe import split  # noqa: F401  (torch)
        loaded = load_model(model)
    whereabouts.remember(loaded.facts.fingerprint, model)
    return loaded


def load_all(strategy: Strategy, model: str | Path | Mapping[str, str | Path]) -> dict[str, Model]:
    """The models of a strategy by name, each checkpoint read once."""
    places = named(strategy, model)
    read_once = {place: load(place) for place in dict.fromkeys(places.values())}
    return {name: read_once[place] for name, place in places.items()}


def named(strategy: Strategy, model: str | Path | Mapping[str, str | Path]) -> dict[str, str | Path]:
    """A checkpoint for each model that a strategy names; one without a name is the first's."""
    wanted = [use.name for use in strategy.models]
    given = model if isinstance(model, Mapping) else {wanted[0]: model}
    if unknown := [name for name in given if name not in wanted]:
        title = f"the strategy `{strategy.name}` names no model `{unknown[0]}`"
        raise error("unknown-model", title, suggest(unknown[0], wanted, "models"))
    if missing := [name for name in wanted if name not in given]:
        how = " ".join(f"--model {name}=PATH" for name in wanted)
        raise error("model-not-given", f"the strategy's model `{missing[0]}` is not given", f"`{how}`")
    return {name: given[name] for name in wanted}


def first(strategy: Strategy, models: Mapping[str, Model]) -> Model:
    """The model whose tokenizer and canvas the strategy works on: the one that it names first."""
    return models[strategy.models[0].name]


def backend_for(order: Order) -> Backend:
    """The backend of an order, if it has what the order asks."""
    with part("imports"):
        backend = registry.builder(order.target)
    if order.loop not in LOOPS:
        raise error("unknown-loop", f"the loop cannot be cut at `{order.loop}`", suggest(order.loop, LOOPS, "cuts"))
    if order.loop not in backend.loops:
        title = f"target `{order.target}` cannot run with --loop {order.loop}"
        raise error("unknown-loop", title, f"use --loop {' or '.join(backend.loops)}")
    _check_quantised(order, backend)
    for name, number in (("--batch", order.batch), ("--max-length", order.max_length)):
        if number is not None and number < 1:
            raise error("option-out-of-range", f"{name} is {number}", "give at least 1")
    return backend if order.machine is None else backend.compiling_for(order.machine)


def _check_quantised(order: Order, backend: Backend) -> None:
    for name, said, known in (
        ("--quantize", order.quantize, QUANTISED),
        ("--activations", order.activations, ACTIVATIONS),
    ):
        if said is not None and said not in known:
            raise error("unknown-precision", f"{name} cannot be `{said}`", suggest(said, known, "precisions"))
    if order.quantize is not None and order.quantize not in backend.quantises:
        title = f"target `{order.target}` has no products with matrices in {order.quantize}"
        able = "`onnx` or `tvm`" if order.quantize in BLOCKS else "`cpu` or `cuda`"
        raise error("unknown-precision", title, f"build for {able}, or without --quantize")
    if order.quantize not in BLOCKS and order.activations != "float32":
        raise error(
            "unknown-precision", "--activations int8 rounds for matrices in blocks alone", "add --quantize int4"
        )
    if order.activations != "float32" and not backend.rounds:
        title = f"target `{order.target}` multiplies quantised matrices with floats alone"
        raise error("unknown-precision", title, "leave out --activations, or build for `onnx`")


@contextmanager
def _installed() -> Iterator[None]:
    """Say what to install where an import fails because only the runtime is there."""
    try:
        yield
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("dcompile"):
            raise
        raise error(
            "missing-package", f"compiling needs the package `{e.name}`", "pip install 'dcompile[build]'"
        ) from e


def _copy_texts(folder: Path, strategy: Strategy, model: Model) -> None:
    """What an artifact says of itself and how it speaks: strategy, modules, rows, trees, tokenizer, chat template."""
    (folder / "strategy.dcs").write_text(strategy.text, encoding="utf-8")
    for module in strategy.modules:
        (folder / MODULES).mkdir(exist_ok=True)
        (folder / MODULES / f"{module.name}.{module.format}").write_bytes(module.data)
    for rows in strategy.rows:
        (folder / MODULES).mkdir(exist_ok=True)
        (folder / MODULES / f"{rows.name}.safetensors").write_bytes(rows.data)
    for extern in strategy.externs:
        (folder / RULES).mkdir(exist_ok=True)
        (folder / RULES / f"{extern.name}.py").write_text(extern.text, encoding="utf-8")
    for tree in strategy.trees:
        (folder / TREES).mkdir(exist_ok=True)
        (folder / TREES / f"{tree.name}.tree").write_text(tree.text, encoding="utf-8")
    for file in model.files:
        if file.name in (TOKENIZER, TEMPLATE):
            shutil.copyfile(file, folder / file.name)
