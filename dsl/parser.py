"""Text to syntax tree; stops at the first mistake."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput

from dcompile.diagnostic import CompileError
from dcompile.dsl import syntax
from dcompile.dsl.build import Builder, depth
from dcompile.dsl.mistakes import syntax_mistake, too_deep
from dcompile.source import Source

DEEPEST = 100


class Lines:
    """Drops line ends inside ( ) and [ ], so that an expression may go over several lines."""

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        inside = 0
        for token in stream:
            if token.type in ("LPAR", "LSQB"):
                inside += 1
            elif token.type in ("RPAR", "RSQB"):
                inside -= 1
            if token.type != "_NL" or inside <= 0:
                yield token


@functools.cache
def grammar() -> Lark:
    """The LALR parser, made once a process."""
    text = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", postlex=Lines(), propagate_positions=True, maybe_placeholders=True)


def parse(source: Source) -> syntax.File:
    """The syntax tree of a text; raises CompileError with one diagnostic."""
    try:
        tree: Tree[Token] = grammar().parse(source.text + "\n")
    except UnexpectedInput as problem:
        before = last_token(source.text, problem)
        raise CompileError([syntax_mistake(source, problem, before)]) from None
    if depth(tree) > 3 * DEEPEST:
        raise CompileError([too_deep(source)])
    file = Builder(source).transform(tree)
    assert isinstance(file, syntax.File)
    return syntax.File(file.span, file.items, comments(source))


def last_token(text: str, problem: UnexpectedInput) -> int:
    """Where the last thing before a problem ends: comments, spaces and line ends do not count."""
    at = min(problem.pos_in_stream or 0, len(text)) if not _at_end(problem) else len(text)
    blank = re.sub(r"#[^\n]*", lambda m: " " * len(m.group()), text[:at])
    return len(blank.rstrip(" \t\r\n\f;"))


def _at_end(problem: UnexpectedInput) -> bool:
    token = getattr(problem, "token", None)
    return not isinstance(problem, UnexpectedCharacters) and (token is None or token.type == "$END")


def comments(source: Source) -> tuple[syntax.Comment, ...]:
    """Every comment of a text, in order. The language has no strings, so each `#` starts one."""
    from dcompile.source import Span

    found = re.finditer(r"#[^\n]*", source.text)
    return tuple(syntax.Comment(Span(m.start(), m.end(), source), m.group().rstrip()) for m in found)
