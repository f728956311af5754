"""`Session.generate`: what goes into the graphs, and what is read from the state they leave."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dcompile.artifact import Canvas
from dcompile.diagnostic import CompileError
from tests.session.fakes import EOS, MASK, Script, facts, session, text


def ids(words: str) -> list[int]:
    return text().encode(words)


@pytest.mark.parametrize("loop", ["inside", "block"])
def test_one_prompt(loop: str) -> None:
    script = Script([[*ids("abc"), EOS]], loop, width=3)
    result = session(script).generate("hello", max_new_tokens=8)
    assert result.text == "abc"
    assert result.output_ids == (*ids("abc"), EOS)
    assert result.prompt_ids == tuple(ids("hello"))
    assert (result.finish_reason, result.model_calls, result.positions_fed) == ("eos", 2, 4)
    assert result.committed_per_call == (3, 1)
    assert script.ran == (["first"] if loop == "inside" else ["first", "next"])


def test_text_ends_before_the_first_eos() -> None:
    """A strategy without `stop on eos` fills the whole canvas, behind an eos too."""
    script = Script([[*ids("ab"), EOS, *ids("c")]], "inside")
    script.ends = False
    result = session(script, stops_on_eos=False).generate("x", max_new_tokens=5)
    assert (result.text, len(result.output_ids), result.finish_reason) == ("ab", 5, "length")


def test_length_is_the_reason_without_an_eos() -> None:
    result = session(Script([ids("ab")])).generate([5, 6], max_new_tokens=5)
    assert (result.text, result.finish_reason) == ("ababa", "length")
    json.dumps(result.as_dict())


def test_prompts_are_left_padded_and_masked() -> None:
    script = Script([ids("a")], "inside")
    results = session(script, batch=3).generate([[5, 6, 7], [8]], max_new_tokens=2, seed=7)
    assert len(results) == 2
    fed = script.fed[0]
    assert fed["tokens"][0, :6].tolist() == [5, 6, 7, MASK, MASK, 0]
    assert fed["tokens"][1, :6].tolist() == [0, 0, 8, MASK, MASK, 0]
    assert fed["pad"].tolist() == [0, 2, 2]  # a row without a prompt repeats the last one
    assert fed["start"].tolist() == [3, 3, 3]
    assert fed["seed"].tolist() == [7, 8, 8]


def test_empty_canvas_holds_no_masks() -> None:
    script = Script([ids("a")], "inside")
    session(script, canvas=Canvas(init="empty")).generate([5], max_new_tokens=2)
    assert script.fed[0]["tokens"][0, :4].tolist() == [5, 0, 0, 0]


def test_a_template_lies_in_the_answer() -> None:
    script = Script([ids("a")], "inside")
    session(script, batch=2).generate([[5, 6], [7]], max_new_tokens=4, template=[8, None, 9])
    session(script, batch=2).generate([[5], [7]], template=[[8], [None, 9, None]])
    session(script).generate([5], template="x<mask>y")
    rows = [
        [5, 6, 8, MASK, 9, MASK],
        [0, 7, 8, MASK, 9, MASK],
        [5, 8, MASK, MASK],
        [7, MASK, 9, MASK],
        [5, *ids("x<mask>y")],
    ]
    assert rows[-1][2] == MASK
    fed = [row.tolist() for f in script.fed for row in f["tokens"]]
    assert fed == [[*row, *[0] * (32 - len(row))] for row in rows]


def test_a_template_needs_masks() -> None:
    with pytest.raises(CompileError, match="template-without-masks"):
        session(Script([ids("a")]), canvas=Canvas(init="empty")).generate([5], template=[6])
    with pytest.raises(CompileError, match="no-tokenizer"):
        session(Script([[5]]), words=False).generate([5], template="a")


def test_canvas_is_rounded_up_from_where_it_is_counted() -> None:
    script = Script([ids("a")], "inside")
    session(script, canvas=Canvas(init="masked", multiple=4, multiple_from="canvas")).generate([5], max_new_tokens=4)
    session(script, canvas=Canvas(init="masked", multiple=4)).generate([5], max_new_tokens=5)
    assert [(f["tokens"] == MASK).sum() for f in script.fed] == [7, 8]
    assert [f["length"].tolist() for f in script.fed] == [[4], [5]]


def test_options_reach_the_graph() -> None:
    script = Script([ids("a")], "inside")
    session(script).generate(
        [5], max_new_tokens=2, temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, repetition_penalty=1.2,
        banned_tokens=[4], min_length=1, eos_ids=[8, 9], seed=3,
    )  # fmt: skip
    fed = script.fed[0]
    assert [float(fed[n][0]) for n in ("temperature", "top_k", "min_length", "seed")] == [0.5, 3, 1, 3]
    assert np.allclose([fed[n][0] for n in ("top_p", "min_p", "penalty")], [0.9, 0.1, 1.2])
    assert np.flatnonzero(fed["banned"]).tolist() == [4]
    assert fed["eos"].tolist() == [8, 9, -1, -1, -1, -1, -1, -1]


def test_defaults_come_from_the_checkpoint() -> None:
    from dcompile.model import Sampling

    asks = facts(sampling=Sampling(temperature=0.5, top_k=7))
    script = Script([ids("a")], "inside")
    session(script, model=asks).generate([5], max_new_tokens=2)
    session(script, model=asks).generate([5], max_new_tokens=2, temperature=0)
    session(script, model=asks, has_rng=False).generate([5], max_new_tokens=2)
    session(script).generate([5], max_new_tokens=2)
    assert [(float(f["temperature"][0]), int(f["top_k"][0])) for f in script.fed] == [(0.5, 7), (0, 7), (0, 7), (0, 0)]


def test_a_seed_is_drawn_where_tokens_are() -> None:
    seeds = {session(Script([ids("a")])).generate([5], max_new_tokens=1, temperature=1).seed for _ in range(4)}
    assert len(seeds) > 1
    assert session(Script([ids("a")])).generate([5], max_new_tokens=1).seed == 0


def test_without_a_length_the_capacity_is_filled() -> None:
    result = session(Script([ids("a")]), capacity=10).generate([5, 6, 7])
    assert len(result.output_ids) == 7


def test_blocks_that_must_be_whole() -> None:
    strict = Canvas(init="masked", whole_answer=8)
    with pytest.raises(CompileError) as caught:
        session(Script([ids("a")]), canvas=strict).generate([5], max_new_tokens=13)
    assert caught.value.diagnostics[0].code == "uneven-blocks"
    assert caught.value.diagnostics[0].help == "ask for 16 new tokens"
    assert len(session(Script([ids("a")]), canvas=strict).generate([5]).output_ids) == 24


BAD = [
    ("empty-prompt", [], {}),
    ("empty-prompt", "", {}),
    ("prompt-too-long", [5] * 20, {"max_new_tokens": 13}),
    ("prompt-too-long", [5] * 40, {}),
    ("token-out-of-range", [5, 400], {}),
    ("token-out-of-range", [-1], {}),
    ("token-out-of-range", [5], {"banned_tokens": [400]}),
    ("token-out-of-range", [5], {"eos_ids": [-1]}),
    ("option-out-of-range", [5], {"eos_ids": list(range(9))}),
    ("option-out-of-range", [5], {"max_new_tokens": 0}),
    ("option-out-of-range", [5], {"temperature": -1}),
    ("option-out-of-range", [5], {"temperature": float("nan")}),
    ("option-out-of-range", [5], {"top_p": 0}),
    ("option-out-of-range", [5], {"min_p": 1.5}),
    ("option-out-of-range", [5], {"top_k": -1}),
    ("option-out-of-range", [5], {"repetition_penalty": 0}),
    ("option-out-of-range", [5], {"min_length": -1}),
    ("option-out-of-range", [5], {"seed": -1}),
    ("batch-mismatch", [[5], [6]], {}),
    ("batch-mismatch", [5], {"seed": [1, 2]}),
    ("batch-mismatch", [5], {"template": [[7], [8]]}),
    ("template-too-long", [5], {"template": [7, None, 8], "max_new_tokens": 2}),
    ("token-out-of-range", [5], {"template": [7, None, 400]}),
    ("unknown-option", [5], {"temprature": 1}),
]


@pytest.mark.parametrize(("code", "prompt", "options"), BAD)
def test_bad_input(code: str, prompt: object, options: dict[str, object]) -> None:
    script = Script([ids("a")])
    with pytest.raises(CompileError) as caught:
        session(script).generate(prompt, **options)  # type: ignore[call-overload]
    assert caught.value.diagnostics[0].code == code
    assert not script.ran


def test_no_generator_and_no_tokenizer() -> None:
    with pytest.raises(CompileError, match="no-generator"):
        session(Script([[5]]), has_rng=False).generate([5], temperature=1)
    with pytest.raises(CompileError, match="no-tokenizer"):
        session(Script([[5]]), words=False).generate("a")
    with pytest.raises(CompileError, match="no-tokenizer"):
        session(Script([[5]]), words=False).generate([5], stop="a")
    assert session(Script([[5]]), words=False).generate([5], max_new_tokens=1).text is None


def test_too_long_says_what_to_do() -> None:
    with pytest.raises(CompileError) as caught:
        session(Script([[5]])).generate([5] * 20, max_new_tokens=13)
    assert str(caught.value) == (
        "error[prompt-too-long]: a prompt of 20 and an answer of 13 tokens do not fit the capacity of 32\n"
        "  = help: ask for at most 12 new tokens, or build with a larger --max-length"
    )
