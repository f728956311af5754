"""Streaming, stop strings and Ctrl-C, where the loop is cut."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dcompile.artifact import Canvas
from dcompile.text import safe, whole
from tests.session.fakes import EOS, Script, session, text


def ids(words: str) -> list[int]:
    return text().encode(words)


def test_pieces_are_whole_characters() -> None:
    stream = session(Script([[*ids("aé日b"), EOS]])).stream("x", max_new_tokens=20)
    assert list(stream) == ["a", "é", "日", "b"]
    assert stream.result is not None
    assert (stream.result.text, stream.result.finish_reason) == ("aé日b", "eos")


@pytest.mark.parametrize("changes", [{"loop": "inside"}, {"canvas": Canvas(init="masked", revises=True)}])
def test_all_at_the_end_where_nothing_is_sure_before(changes: dict[str, Any]) -> None:
    script = Script([[*ids("abc"), EOS]], changes.pop("loop", "block"))
    assert list(session(script, **changes).stream("x", max_new_tokens=20)) == ["abc"]


@pytest.mark.parametrize("loop", ["inside", "block"])
def test_stop_string(loop: str) -> None:
    script = Script([ids("one, two. three.")], loop)
    stream = session(script).stream("x", max_new_tokens=20, stop=[". t", "zzz"])
    pieces = list(stream)
    assert "".join(pieces) == "one, two"
    result = stream.result
    assert result is not None and result.finish_reason == "stop"
    assert text().decode(result.output_ids) == "one, two. t"
    assert result.model_calls == (11 if loop == "block" else 20)
    assert len(script.ran) == (11 if loop == "block" else 1)


def test_a_beginning_of_a_stop_string_is_held_back() -> None:
    pieces = list(session(Script([[*ids("a--b"), EOS]])).stream("x", max_new_tokens=9, stop="---"))
    assert pieces == ["a", "--b"]
    assert (safe("ab\n", ["\n\nX"]), safe("ab", ["ba"]), safe("ab", ["c"])) == ("ab", "a", "ab")
    assert whole("a\ufffd") == "a"


def test_a_stopped_row_does_not_depend_on_its_neighbour() -> None:
    both = session(Script([ids("a.b"), ids("cccccccc.")]), batch=2)
    alone = session(Script([ids("a.b")]))
    first, second = both.generate(["x", "yz"], max_new_tokens=9, stop=".")
    single = alone.generate("x", max_new_tokens=9, stop=".")
    assert (first.text, first.output_ids, first.model_calls) == (single.text, single.output_ids, single.model_calls)
    assert (second.text, second.model_calls) == ("cccccccc", 9)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process that a shell puts in the background starts with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Pressed(Script):
    """Ctrl-C comes while the third graph runs."""

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if len(self.ran) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().run(graph, inputs)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_ends_with_what_is_there() -> None:
    result = session(Pressed([ids("abcdef")])).generate("x", max_new_tokens=20)
    assert (result.text, result.finish_reason, result.model_calls) == ("abc", "interrupted", 3)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class PressedTwice(Script):
    """Ctrl-C comes twice while a graph runs."""

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return super().run(graph, inputs)


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt):
        session(PressedTwice([ids("abcdef")])).generate("x", max_new_tokens=20)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
