"""Syntax mistakes in the user's words."""

from __future__ import annotations

from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from dcompile.diagnostic import Diagnostic, Label
from dcompile.source import Source, Span

NOT_YET = {
    "schedule": "`schedule` blocks",
    "use": "`use`",
    "insert": "inserting positions",
    "delete": "deleting positions",
}

TYPED = {
    "LBRACE": "`{`", "RBRACE": "`}`", "LPAR": "`(`", "RPAR": "`)`", "LSQB": "`[`", "RSQB": "`]`", "COMMA": "`,`",
    "COLON": "`:`", "EQUAL": "`=`", "DOT": "`.`", "__ANON_0": "`..`", "_NL": "the end of the line", "NAME": "a name",
    "NUMBER": "a number", "STRING": "a path in quotes", "PLUS": "`+`", "MINUS": "`-`", "TIMES": "`*`", "COMPARE": "`<`",
    "$END": "the end of the file",
}  # fmt: skip

OPERAND = {"NAME", "NUMBER", "TRUE", "FALSE", "LPAR", "LSQB", "MINUS", "NOT"}
GOES_ON = {"PLUS", "MINUS", "TIMES", "MOD", "COMPARE", "AND", "OR", "IN", "IF", "WHERE", "DOT", "LPAR", "LSQB"}


def syntax_mistake(source: Source, problem: UnexpectedInput, before: int) -> Diagnostic:
    """The diagnostic for what Lark could not parse; `before` is where the last token before it ends."""
    at = min(problem.pos_in_stream or 0, len(source.text))
    if (later := _not_yet(source, at)) is not None:
        return later
    if isinstance(problem, UnexpectedCharacters):
        where = Span(at, at + 1, source)
        sign = source.text[at : at + 1]
        return Diagnostic(
            "unknown-character",
            f"`{sign}` has no meaning here",
            Label(where),
            help="see docs/language.md for the signs",
        )
    assert isinstance(problem, UnexpectedToken)
    return _unexpected(source, problem, at, before)


def _unexpected(source: Source, problem: UnexpectedToken, at: int, before: int) -> Diagnostic:
    accepts = set(problem.accepts)
    wanted = _wanted(accepts)
    token = problem.token
    behind = Label(Span(before, before + 1, source), f"expected {wanted}")
    opener = _unclosed(source.text[:at])
    opened = () if opener is None else (Label(Span(opener, opener + 1, source), "opened here"),)
    if token.type == "$END" or at >= len(source.text):
        return Diagnostic("unfinished-text", "the text ends too early", behind, opened)
    if token.type == "_NL":
        return Diagnostic("unexpected-end-of-line", "the line ends too early", behind, help=_help(str(token), accepts))
    here = Label(Span(at, at + len(token), source), f"expected {wanted}")
    also = opened if accepts & {"RPAR", "RSQB"} else ()
    return Diagnostic("unexpected-token", f"`{token}` cannot stand here", here, also, _help(str(token), accepts))


def _wanted(accepts: set[str]) -> str:
    if "STRATEGY" in accepts:
        return "`strategy`, `rule` or `action`"
    if "_NL" in accepts and not accepts & {"NAME", "NUMBER"}:
        return "the end of the statement"
    return expected(accepts)


def _help(token: str, accepts: set[str]) -> str | None:
    if token == "=" and "COMPARE" in accepts:
        return "to compare, write `==`"
    if "LBRACE" in accepts:
        return "a body stands in `{` and `}`, and `{` on the same line"
    if "EQUAL" in accepts and "LPAR" in accepts:
        return "a statement is `name = value`, an action `name(...)`, or begins with a word such as `commit` or `for`"
    if "_NL" in accepts and "STRATEGY" not in accepts and "RBRACE" in accepts:
        return "one statement a line, or `;` between two"
    return None


def expected(accepts: set[str]) -> str:
    """What would be right, as a user types it: `` `,` or `)` ``."""
    kinds = set(accepts)
    out = []
    if len(kinds & OPERAND) >= 3:
        kinds -= OPERAND
        out.append("a value")
    if len(kinds) > 3:
        kinds -= GOES_ON
    words = sorted(TYPED.get(kind, f"`{kind.lower().strip('_')}`") for kind in kinds)
    out += words if len(words) <= 6 else ["a statement"]
    return out[0] if len(out) == 1 else ", ".join(out[:-1]) + " or " + out[-1]


def _not_yet(source: Source, at: int) -> Diagnostic | None:
    """A construct of the full language that is not built: it starts its line."""
    start = max(source.text.rfind(sign, 0, at) for sign in "\n;{") + 1
    line = source.text[start:]
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if word in NOT_YET:
        begin = start + line.index(word)
        return not_yet(NOT_YET[word], Span(begin, begin + len(word), source))
    return None


def not_yet(what: str, span: Span) -> Diagnostic:
    """The diagnostic for a part of the design that this version does not have."""
    return Diagnostic(
        "not-yet",
        f"{what}: not in this version of the language",
        Label(span),
        help="docs/language.md says what there is",
    )


def too_deep(source: Source) -> Diagnostic:
    """Nesting beyond what anyone writes; it would exhaust the stack."""
    return Diagnostic("too-deep", "the text is nested too deeply", Label(Span(0, 1, source)), help="name the parts")


def _unclosed(text: str) -> int | None:
    """Where the innermost bracket without its partner stands."""
    stack: list[int] = []
    comment = False
    for i, sign in enumerate(text):
        comment = (comment or sign == "#") and sign != "\n"
        if not comment and sign in "([{":
            stack.append(i)
        elif not comment and sign in ")]}" and stack:
            stack.pop()
    return stack[-1] if stack else None
