"""Hypothesis: random valid strategies, as texts and as values. Small, and certain to end, so that they can be run.

`programs()` gives texts, `strategies()` what they elaborate to. `attention` picks the kind of model: `causal` programs
append; `masked` and `block_causal` ones unmask by blocks, with all cache policies, selections, states and branches.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from dcompile.dsl import load
from dcompile.source import Source
from dcompile.strategy import Strategy

KINDS = ("causal", "masked", "block_causal")


@dataclass(frozen=True)
class Shape:
    """What a program is made for: the model's attention, and the size of its blocks."""

    attention: str = "masked"
    block: int = 4


def strategies(attention: str | None = None) -> st.SearchStrategy[Strategy]:
    """Random valid strategies, for one kind of model or any."""
    return programs(attention).map(lambda text: load(Source("random.dcs", text)))


@st.composite
def programs(draw: st.DrawFn, attention: str | None = None) -> str:
    """The text of a random valid strategy."""
    kind = attention or draw(st.sampled_from(KINDS))
    shape = Shape(kind, draw(st.integers(1, 5)))
    body = draw(appending() if kind == "causal" else blockwise(shape))
    model = f"block_causal({shape.block})" if kind == "block_causal" else kind
    canvas = "empty" if kind == "causal" else "masked"
    head = [
        "strategy random {",
        "param threshold = 0.5 in 0..1",
        "state seen: int = 0",
        "state best: float[canvas] = 0.0",
        "state turn: int = 0 per block",
        "state fresh: float[canvas] = 0.5 per step",
        "state chosen: token[canvas] = 4",
        "state done: bool = false",
    ]
    return "\n".join([*head, f"model lm: {model}", f"canvas answer = {canvas}(length)", *body, "}"]) + "\n"


# ---------------------------------------------------------------- expressions


def keys() -> st.SearchStrategy[str]:
    """A number per position that a selection may sort by; `p` is known where it is read."""
    scores = [
        "p.max",
        "p.entropy",
        "p.margin",
        "p.gap",
        "p.prob(p.token)",
        "p.without([1, 2]).prob(p.token)",
        "p.warped.max",
    ]
    scores += [
        "p.max * 0.5 + p.margin",
        "-p.entropy",
        "p.max / (1 + position)",
        "sqrt(p.max)",
        "(p.max if position mod 2 == 0 else 0.1)",
    ]
    return st.sampled_from(scores)


def predicates() -> st.SearchStrategy[str]:
    """What must hold along a `take`."""
    simple = ["p.max >= threshold", "p.margin > 0.2", "p.entropy <= 2", "p.token != token(5)", "position mod 3 != 1"]
    running = ["count <= 2", "sum(p.entropy) - p.entropy <= 3", "p.max >= 1 - 1.5 / (count + 1)", "max(p.entropy) < 5"]
    one = st.sampled_from(simple + running)
    return one | st.builds("{} and {}".format, one, one) | st.builds("not ({})".format, one)


def amounts() -> st.SearchStrategy[str]:
    """An int of at least 1."""
    return st.sampled_from(["1", "2", "max(seen, 1)", "1 + seen mod 2", "max(length // 4, 1)", "1 + turn mod 2", "3"])


@st.composite
def selections(draw: st.DrawFn, region: str) -> str:
    """A selection from `region` that takes at least one position where there is one."""
    key, order = draw(keys()), draw(st.sampled_from(["asc", "desc"]))
    form = draw(st.integers(0, 5))
    if form == 0:
        return f"top({region}, {draw(amounts())}, by: {key})"
    if form == 1:
        return f"take({region}, by: {key} {order}, while: {draw(predicates())}, atleast: {draw(amounts())})"
    if form == 2:
        return f"take({region}, by: {key} {order}, while: {draw(predicates())}, atleast: 1, atmost: {draw(amounts())})"
    if form == 3:
        per = draw(st.sampled_from(["runs", "blocks(2)", "blocks(3)"]))
        return f"take({region}, by: {key} {order}, atmost: {draw(amounts())}, per: {per})"
    if form == 4:
        return f"(({region} where {key} > 0.7) or first({region}))"
    near = draw(st.sampled_from(["dilate(first({0}), 2)", "{0} where p.max >= threshold", "after(prompt)"])).format(
        region
    )
    return f"({region} and ({near}) or top({region}, 1, by: {key}))"


# ---------------------------------------------------------------- bodies


@st.composite
def extras(draw: st.DrawFn, region: str) -> list[str]:
    """Statements that need not be there: state, branches, stops."""
    some = [
        "seen = seen + 1",
        "turn = turn + 1",
        "done = eos or turn > 3",
        "break when done",
        f"fresh = p.margin if {region} else fresh",
        f"chosen = p.token if {region} else chosen",
        f"stop when mean(fresh in {region}) > 0.4 and sum(best in answer) > 1",
        f"best = p.max if {region} else best",
        f"if mean(p.entropy in {region}) < 1 {{ seen = seen + 2 }} else {{ seen = 0 }}",
        f"seen = max(seen, floor(10 * sum(p.max in {region})))",
        "stop on eos",
        f"stop when count(masked) < 2 and all(p.max > 0.9 in {region})",
    ]
    return draw(st.lists(st.sampled_from(some), max_size=3, unique=True))


@st.composite
def appending(draw: st.DrawFn) -> list[str]:
    """Autoregression: the last position, or everything, in each turn."""
    feed = draw(st.sampled_from(["last", "everything", "last or prompt"]))
    loop = draw(
        st.sampled_from([("repeat {", "} until eos"), ("while not eos {", "}"), ("for t in 0 to length {", "}")])
    )
    extra = draw(
        st.lists(st.sampled_from(["seen = seen + 1", "stop on eos", "break when seen > 6"]), max_size=2, unique=True)
    )
    return [loop[0], f"p = lm({feed})", "append p.token", *extra, loop[1]]


@st.composite
def blockwise(draw: st.DrawFn, shape: Shape) -> list[str]:
    """Unmasking by blocks; the clean store of a finished block as block-causal models want it."""
    causal = shape.attention == "block_causal"
    over = "canvas" if causal else draw(st.sampled_from(["answer", "canvas"]))
    short = "round_up" if causal else draw(st.sampled_from(["short", "round_up"]))
    feed = (
        "b keep none"
        if causal
        else draw(st.sampled_from(["everything", "b", "from(b)", "b or before(b)", "dilate(b, 1)"]))
    )
    call, _, keep = feed.partition(" ")
    call, keep = (feed, "") if not causal else (call, " " + keep)
    region = "masked in b"
    out = [f"refresh lm(whole(prompt, {shape.block}))"] if causal else []
    out += [f"for b in blocks({over}, {shape.block}, short: {short}) {{"]
    if not causal:
        out += draw(st.sampled_from([[], ["refresh lm(everything)"]]))
    out += draw(denoising(region, f"p = lm({call}){keep}"))
    out += ["refresh lm(b)"] if causal else []
    return [*out, *draw(st.sampled_from([[], ["stop on eos"]])), "}"]


@st.composite
def denoising(draw: st.DrawFn, region: str, call: str) -> list[str]:
    """The loop inside a block: while masks are left, or a number of turns; perhaps with revision in the latter."""
    chosen = draw(selections(region))
    commit = f"commit p.token at {chosen}"
    extra = draw(extras(region))
    if draw(st.booleans()):
        return [f"while any({region}) {{", call, commit, *extra, "}"]
    written = "b and answer and not masked"
    revisions = [
        f"overwrite p.token at {written} where p.max > 0.9",
        f"overwrite chosen at {written} where chosen != token(4)",
        "mask take(answer in b where not masked, by: p.max asc, atmost: 1)",
    ]
    revise = draw(st.sampled_from([[], [], *([r] for r in revisions)]))
    return [f"for t in 1 to {draw(st.integers(1, 3))} {{", call, commit, *revise, *extra, "}"]
