"""Hypothesis: random valid strategies that draft, as texts. Each turn of their loop accepts, so they end."""

from __future__ import annotations

from hypothesis import strategies as st

SHAPES = [
    "chain(1)",
    "chain(4)",
    "expand(2)",
    "expand(2, 1, 1)",
    "expand(3, 2)",
    "[[0], [1], [1, 0], [0, 0], [0, 0, 0]]",
]
TOKENS = [
    "table[parent.token, rank]",
    "text[start + depth - 1 + rank]",
    "row[(seen + depth) mod 4]",
    "token(5) if rank == 0 else parent.token",
    "text[parent.position - rank] if depth < 3 else none",
    "table[parent.token, rank] if parent.rank == 0 or depth > 1 else token(7)",
    "text[found(1, latest)] if start < 0 else table[row[rank], depth mod 3]",
]
CONDITIONS = [
    "token == parent.p.token",
    "parent.p.token == token and depth < 3",
    "parent.p.max < 0.9",
    "parent.p.prob(token) > 0.002",
    "token == parent.p.top or rank == 1",
    "p.entropy > parent.p.entropy or parent.position mod 2 == 0",
    "parent.p.margin < limit and token != token(9)",
    "weights[token] <= weights[parent.token]",
]
AFTER = [
    "table[t.token] = p.top(3)",
    "table[t.token] = p.top(3) where t.depth < 2",
    "table[t.parent.token, t.rank] = t.token where t.depth > 0",
    "row[t.depth - t.accepted - 1] = p.token",
    "row[seen mod 4] = text[found(1)]",
    "seen = seen + t.accepted",
    "weights[t.token] = p.max",
    "weights[t.parent.token] = p.prob(t.token) + weights[t.token] where t.rank == 0",
    "stop when seen > 9",
]
SCORES = [
    "lm.head(lm.embedding(parent.token))",
    "lm.head(h + lm.embedding(parent.token) * depth)",
    "lm.head(lm.embedding(text[position - 2]) - silu(h))",
]
RULES = ["recursive", "recursive_distinct", "kseq", "greedy", "traversal"]
DRAWN = ["sample", "distinct", "top", "greedy"]


@st.composite
def drafting(draw: st.DrawFn, drafter: bool | None = None) -> str:
    """The text of a random valid strategy that drafts; `drafter`: whether by a second model, `small`."""
    second = draw(st.booleans()) if drafter is None else drafter
    life = draw(st.sampled_from(["", " per step"]))
    head = [
        "strategy random {",
        "param limit = 0.5 in 0..1",
        "model lm: causal",
        *(["model small: causal"] if second else []),
        f"state table: token[vocab, 3] = {draw(st.integers(-1, 9))}{life}",
        "state row: token[4] = 3",
        "state law: float[4, vocab] = 0",
        "state weights: float[vocab] = 0.1",
        "state seen: int = 0",
        "state h: float[hidden] = 0.2",
        "canvas answer = empty(length)",
        "repeat {",
        f"start = found({draw(st.integers(1, 2))})",
    ]
    body = draw(
        st.one_of(ruled(), joined("small")) if second else st.one_of(conditioned(), kept(), joined(None), headed())
    )
    after = draw(st.lists(st.sampled_from(AFTER), max_size=3, unique=True))
    return "\n".join([*head, *body, *after, "} until eos", "}"]) + "\n"


@st.composite
def conditioned(draw: st.DrawFn) -> list[str]:
    """A draft from tables and text, accepted by a condition; or plain decoding where nothing was found."""
    tokens, condition = draw(st.sampled_from(TOKENS)), draw(st.sampled_from(CONDITIONS))
    shape = draw(st.sampled_from(SHAPES))
    return [f"draft t = {shape} from last {{ token = {tokens} }}", "p = lm(t)", f"accept t where {condition}"]


@st.composite
def joined(draw: st.DrawFn, model: str | None) -> list[str]:
    """Two drafts, or three, that are verified as one."""
    shape, tokens = st.sampled_from(SHAPES), st.sampled_from(TOKENS)
    names = ["a", "b", *draw(st.sampled_from([[], ["c"]]))]
    parts = [f"draft {name} = {draw(shape)} from last {{ token = {draw(tokens)} }}" for name in names]
    if model is not None:
        grown = draw(st.sampled_from([*SHAPES, "beam(2, 2, 5)", "beam(3, 2, 4, gain: 0.3)"]))
        parts[draw(st.integers(0, len(parts) - 1))] = f"draft m = {grown} from last by {model}"
        names = [part.split()[1] for part in parts]
    condition = draw(st.sampled_from(CONDITIONS))
    return [*parts, f"draft t = {' union '.join(names)}", "p = lm(t)", f"accept t where {condition}"]


@st.composite
def kept(draw: st.DrawFn) -> list[str]:
    """A chain of tokens whose laws a table keeps, rightly or not."""
    rule = draw(st.sampled_from([*RULES, "rejection", "block"]))
    ahead = draw(st.sampled_from(["t.depth - t.accepted - 1", "t.depth - 1", "t.position mod 5"]))
    return [
        f"draft t = chain({draw(st.integers(1, 4))}) from last {{ token = row[depth - 1]; q = law[depth - 1] }}",
        "p = lm(t)",
        f"accept t by {rule}(p, t.q)",
        *draw(st.sampled_from([[], ["law[t.depth - 1] = probs(none)"]])),
        f"row[{ahead}] = p.sample",
        f"law[{ahead}] = probs({draw(st.sampled_from(['p', 'p.warped']))})",
    ]


@st.composite
def headed(draw: st.DrawFn) -> list[str]:
    """Tokens that are drawn from scores, judged by a rule, rightly or not, or by a condition."""
    shape, drawn = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DRAWN))
    rules = [*RULES, "rejection", "block"] if shape.startswith("chain") else RULES
    own = draw(st.sampled_from(["", "h = parent.h / 2 + lm.embedding(parent.token); "]))
    ways = [f"by {draw(st.sampled_from(rules))}(p, t.q)", f"where {draw(st.sampled_from(CONDITIONS))}"]
    return [
        f"draft t = {shape} from last {{ {own}scores = {draw(st.sampled_from(SCORES))} }} drawing {drawn}",
        "p = lm(t)",
        f"accept t {draw(st.sampled_from(ways))}",
        "h = t.last.p.hidden",
    ]


@st.composite
def ruled(draw: st.DrawFn) -> list[str]:
    """A draft by the second model, accepted by a rule or a condition."""
    shape = draw(st.sampled_from(SHAPES))
    rules = [*RULES, "rejection", "block"] if shape.startswith("chain") else RULES
    ways = [f"by {draw(st.sampled_from(rules))}(p, t.q)", f"where {draw(st.sampled_from(CONDITIONS))}"]
    ways += [f"{ways[0]} or {ways[1]}"]
    drawn = draw(st.sampled_from(DRAWN))
    return [
        f"draft t = {shape} from last by small drawing {drawn}",
        "p = lm(t)",
        f"accept t {draw(st.sampled_from(ways))}",
    ]
