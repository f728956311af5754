"""Syntax tree to text, in one style. `parse(format(parse(t))) == parse(t)`, and comments stay with their lines."""

from __future__ import annotations

from itertools import groupby

from dcompile.dsl import syntax

LOOSE = ("where", "if", "or", "and", "not", "in", "compare", "sum", "product", "sign", "postfix")
RANK = {name: i for i, name in enumerate(LOOSE)}
LEVEL = {
    "or": "or",
    "and": "and",
    "+": "sum",
    "-": "sum",
    "*": "product",
    "/": "product",
    "//": "product",
    "mod": "product",
}


def format(file: syntax.File) -> str:
    """The text of a file: two spaces a level, one statement a line, an empty line kept where one or more stood."""
    writer = Writer(file)
    for item in file.items:
        writer.item(item)
    writer.leftover()
    return "\n".join(writer.lines).strip("\n") + "\n"


class Writer:
    """Lines written so far, and the comments that still wait for the place they stood at."""

    def __init__(self, file: syntax.File) -> None:
        self.text = file.source.text
        self.comments = list(file.comments)
        self.lines: list[str] = []
        self.end = 0

    # ------------------------------------------------------------ lines

    def before(self, start: int, indent: int) -> None:
        """Comments that stand before a place, and an empty line if there was one."""
        while self.comments and self.comments[0].span.start < start:
            comment = self.comments.pop(0)
            self._gap(comment.span.start)
            self.lines.append("  " * indent + comment.text)
            self.end = comment.span.end
        self._gap(start)

    def _gap(self, start: int) -> None:
        opened = not self.lines or self.lines[-1].split("#")[0].rstrip().endswith("{")
        if not opened and self.lines[-1] and self.text.count("\n", self.end, start) > 1:
            self.lines.append("")

    def put(self, text: str, span_end: int, indent: int) -> None:
        """One line, with the comments that stood on or inside what it says."""
        here = []
        while self.comments and not self.text[span_end : self.comments[0].span.start].strip(" \t;"):
            here.append(self.comments.pop(0))
        while here and here[0].span.start < span_end:
            self.lines.append("  " * indent + here.pop(0).text)
        line = "  " * indent + text
        if here:
            at = here[-1].span.start
            column = at - (self.text.rfind("\n", 0, at) + 1)
            aligned = self.text[max(0, at - 3) : at] == "   "
            line = f"{line.ljust(column - 2) if aligned else line}  {here[-1].text}"
        self.lines.append(line)
        self.end = max(span_end, here[-1].span.end if here else 0)

    def leftover(self) -> None:
        """Comments behind the last item."""
        self.before(len(self.text) + 1, 0)

    # ------------------------------------------------------------ items and bodies

    def item(self, item: syntax.Strategy | syntax.Function) -> None:
        self.before(item.span.start, 0)
        if isinstance(item, syntax.Function):
            self.statement(item, 0)
            return
        head = f"strategy {item.name.name}"
        if item.parameters:
            head += f"({_parameters(item.parameters)})"
        self.body(head, item.members, item.name.span.end, item.span.end, 0)

    def body(
        self, head: str, members: tuple[syntax.Stmt, ...], opened: int, closed: int, indent: int, tail: str = ""
    ) -> None:
        """`head { ... } tail`, from where the brace is looked for to where it closes."""
        first = members[0].span.start if members else closed - 1
        brace = self._sign("{", opened, first)
        self.put(head + " {", min(brace + 1, first), indent)
        columns = _columns(members)
        for n, member in enumerate(members):
            self.before(member.span.start, indent + 1)
            if n in columns:
                left, _, right = simple(member).partition(" = ")
                self.put(f"{left.ljust(columns[n])} = {right}", member.span.end, indent + 1)
            else:
                self.statement(member, indent + 1)
        last = members[-1].span.end if members else brace + 1
        shut = self._sign("}", last, closed)
        while self.comments and self.comments[0].span.start < shut:
            comment = self.comments.pop(0)
            self._gap(comment.span.start)
            self.lines.append("  " * (indent + 1) + comment.text)
            self.end = comment.span.end
        if tail:
            self.put("} " + tail, closed, indent)
        else:
            self.put("}", shut + 1, indent)

    def _sign(self, sign: str, start: int, end: int) -> int:
        """Where a sign stands in the text, comments aside."""
        at = start
        while at < end:
            if self.text[at] == "#":
                at = self.text.find("\n", at)
                continue
            if self.text[at] == sign:
                return at
            at += 1
        return end

    # ------------------------------------------------------------ statements

    def statement(self, node: syntax.Stmt, indent: int) -> None:
        match node:
            case syntax.Function(span, kind, name, parameters, body):
                self.body(f"{kind} {name.name}({_parameters(parameters)})", body, name.span.end, span.end, indent)
            case syntax.ForIn(span, name, over, body):
                self.body(f"for {name.name} in {expr(over, 'sum')}", body, over.span.end, span.end, indent)
            case syntax.ForCount(span, name, start, stop, down, body):
                way = "down to" if down else "to"
                head = f"for {name.name} in {expr(start, 'sum')} {way} {expr(stop, 'sum')}"
                self.body(head, body, stop.span.end, span.end, indent)
            case syntax.While(span, condition, body):
                self.body(f"while {expr(condition)}", body, condition.span.end, span.end, indent)
            case syntax.Repeat(span, body, until):
                self.body("repeat", body, span.start, span.end, indent, f"until {expr(until)}")
            case syntax.Branches(span, name, start, stop, body, within, tokens, region):
                head = f"branch {name.name} in {expr(start, 'sum')} to {expr(stop, 'sum')}"
                tail = f"accept {'within ' if within else ''}{expr(tokens)} at {expr(region)}"
                self.body(head, body, stop.span.end, span.end, indent, tail)
            case syntax.If():
                self.branch(node, "if", indent)
            case syntax.Draft(given=given) if any(g.name.name not in ("token", "q") for g in given):
                self.body(_drafted(node), given, node.root.span.end, node.span.end, indent, _drawing(node).strip())
            case _:
                self.put(simple(node), node.span.end, indent)

    def branch(self, node: syntax.If, word: str, indent: int) -> None:
        """`if`, its `else if`s and its `else`."""
        head = f"{word} {expr(node.condition)}"
        if not node.orelse:
            self.body(head, node.then, node.condition.span.end, node.span.end, indent)
            return
        end = self._sign("}", node.then[-1].span.end if node.then else node.condition.span.end, node.span.end) + 1
        self.body(head, node.then, node.condition.span.end, end, indent)
        self._join()
        only = node.orelse[0]
        chained = (
            len(node.orelse) == 1 and isinstance(only, syntax.If) and "{" not in self._between(end, only.span.start)
        )
        if chained and isinstance(only, syntax.If):
            self.branch(only, "} else if", indent)
        else:
            self.body("} else", node.orelse, end, node.span.end, indent)

    def _between(self, start: int, end: int) -> str:
        return "".join(line.split("#")[0] for line in self.text[start:end].splitlines())

    def _join(self) -> None:
        """Take back the closing brace just written: `else` goes on with it. A comment on it moves up."""
        closing = self.lines.pop()
        note = closing.partition("#")[2]
        if note:
            self.lines.append(closing[: len(closing) - len(closing.lstrip())] + "  #" + note)


def _columns(members: tuple[syntax.Stmt, ...]) -> dict[int, int]:
    """For each `param`, by its place, the width of what stands before `=` in the `param`s next to it."""
    columns = {}
    for is_param, run in groupby(enumerate(members), key=lambda pair: isinstance(pair[1], syntax.Param)):
        if is_param:
            places = list(run)
            widest = max(len(simple(member).partition(" = ")[0]) for _, member in places)
            columns.update({n: widest for n, _ in places})
    return columns


def _parameters(parameters: tuple[syntax.Parameter, ...]) -> str:
    return ", ".join(p.name.name + (f" = {expr(p.default)}" if p.default is not None else "") for p in parameters)


def simple(node: syntax.Stmt) -> str:
    """A statement or declaration of one line."""
    match node:
        case syntax.Assign(_, name, value, options):
            return f"{name.name} = {expr(value)}{_options(options)}"
        case syntax.Refresh(_, call, options):
            return f"refresh {expr(call)}{_options(options)}"
        case syntax.Invoke(_, call):
            return expr(call)
        case syntax.Write(_, action, tokens, region, rule, arguments):
            by = [f"by {rule.name}({', '.join(map(_argument, arguments))})"] if rule else []
            parts = [action, *([expr(tokens)] if tokens else [])]
            return " ".join([*parts, *(["at"] if tokens and region else []), *([expr(region)] if region else []), *by])
        case syntax.Break(_, condition):
            return f"break when {expr(condition)}" if condition else "break"
        case syntax.Stop(_, condition):
            return f"stop when {expr(condition)}" if condition else "stop on eos"
        case syntax.Draft():
            return _draft(node)
        case syntax.Join(_, name, parts):
            return f"draft {name.name} = {' union '.join(part.name for part in parts)}"
        case syntax.Given(_, name, value):
            return f"{name.name} = {expr(value)}"
        case syntax.Accept():
            return _accept(node)
        case syntax.Fill(_, table, index, value):
            return f"{table.name}[{', '.join(map(expr, index))}] = {expr(value)}"
        case syntax.Return(_, value):
            return f"return {expr(value)}"
        case syntax.Require(_, what):
            return f"require {what.name}"
    return declaration(node)


def _draft(node: syntax.Draft) -> str:
    head = _drafted(node)
    if node.model is not None:
        return f"{head} by {node.model.name}{_drawing(node)}"
    return f"{head} {{ {'; '.join(map(simple, node.given))} }}{_drawing(node)}"


def _drawing(node: syntax.Draft) -> str:
    return f" drawing {node.drawn.name}" if node.drawn else ""


def _drafted(node: syntax.Draft) -> str:
    head = f"draft {node.name.name} = {expr(node.shape, 'postfix')}"
    return head + (f" with {node.rows.name}" if node.rows else "") + f" from {node.root.name}"


def _accept(node: syntax.Accept) -> str:
    words = [f"accept {node.draft.name}"]
    if node.rule is not None:
        given = "" if node.arguments is None else f"({', '.join(map(_argument, node.arguments))})"
        words += [f"by {node.rule.name}{given}", *(["or"] if node.where else [])]
    return " ".join([*words, *([f"where {expr(node.where)}"] if node.where else [])])


def declaration(node: syntax.Stmt) -> str:
    """`param`, `model`, `module`, `rows`, `extern`, `canvas`, `state`, `tree`."""
    match node:
        case syntax.Param(_, name, kind, default, low, high):
            typed = f": {kind.name}" if kind else ""
            limits = f" in {expr(low, 'sum')}..{expr(high, 'sum')}" if low and high else ""
            return f"param {name.name}{typed} = {expr(default, 'sum')}{limits}"
        case syntax.Model(_, name, kind, argument):
            return f"model {name.name}: {kind.name}" + (f"({expr(argument)})" if argument else "")
        case syntax.Module(_, name, counted, taken, given, path):
            takes, gives = ", ".join(map(_shape, taken)), _shape(given)
            return f'module {name.name}{_sized(counted)}({takes}) -> {gives} = "{path.value}"'
        case syntax.Rows(_, name, count, layer, path):
            begin = f" from layer {expr(layer)}" if layer else ""
            return f'rows {name.name}[{expr(count)}]{begin} = "{path.value}"'
        case syntax.Extern(_, name, parameters, kind, dimensions, path):
            takes = ", ".join(f"{p.name.name}: {p.kind.name}{_sized(p.dimensions)}" for p in parameters)
            return f'extern rule {name.name}({takes}) -> {kind.name}{_sized(dimensions)} = "{path.value}"'
        case syntax.Canvas(_, name, kind, argument):
            return f"canvas {name.name} = {kind.name}({expr(argument)})"
        case syntax.State(_, name, kind, dimensions, init, lifetime):
            life = f" per {lifetime.name}" if lifetime else ""
            return f"state {name.name}: {kind.name}{_sized(dimensions)} = {expr(init)}{life}"
        case syntax.Tree(_, name, shape):
            return f"tree {name.name} = " + (f'"{shape.value}"' if isinstance(shape, syntax.Text) else expr(shape))
    raise AssertionError(node)


def _shape(shape: syntax.Shape) -> str:
    return shape.kind.name + _sized(shape.dimensions)


def _sized(dimensions: tuple[syntax.Expr, ...]) -> str:
    return f"[{', '.join(map(expr, dimensions))}]" if dimensions else ""


def _options(options: tuple[syntax.Option, ...]) -> str:
    out = ""
    for option in options:
        if option.name.name == "keep":
            out += f" keep {expr(option.value) if option.value else 'none'}"
        elif option.name.name == "plus":
            assert option.value is not None
            out += f" plus {expr(option.value)}"
        else:
            assert option.value is not None
            out += f" with {option.name.name} {expr(option.value)}"
    return out


# ---------------------------------------------------------------- expressions


def expr(node: syntax.Expr, least: str = "where") -> str:
    """The text of an expression, in parentheses if it binds looser than `least`."""
    level, text = _expr(node)
    return f"({text})" if RANK[level] < RANK[least] else text


def _expr(node: syntax.Expr) -> tuple[str, str]:
    match node:
        case syntax.Number(_, value):
            return "postfix", _number(value)
        case syntax.Truth(_, truth):
            return "postfix", "true" if truth else "false"
        case syntax.Word(_, name):
            return "postfix", name
        case syntax.Listing(_, items):
            return "postfix", f"[{', '.join(map(expr, items))}]"
        case syntax.Apply(_, function, arguments):
            return "postfix", f"{function.name}({', '.join(map(_argument, arguments))})"
        case syntax.Attribute(_, value, name):
            return "postfix", f"{expr(value, 'postfix')}.{name.name}"
        case syntax.Method(_, value, name, arguments):
            return "postfix", f"{expr(value, 'postfix')}.{name.name}({', '.join(map(_argument, arguments))})"
        case syntax.Index(_, value, items):
            return "postfix", f"{expr(value, 'postfix')}[{', '.join(map(expr, items))}]"
        case syntax.Numbered(_, value, number, arguments):
            return "postfix", f"{expr(value, 'postfix')}[{expr(number)}]({', '.join(map(_argument, arguments))})"
        case syntax.Unary(_, "not", operand):
            return "not", f"not {expr(operand, 'not')}"
        case syntax.Unary(_, _, operand):
            return "sign", f"-{expr(operand, 'sign')}"
        case syntax.Binary(_, op, left, right):
            level = LEVEL.get(op, "compare")
            first = "sum" if level == "compare" else level
            return level, f"{expr(left, first)} {op} {expr(right, _tighter(level))}"
        case syntax.In(_, value, region):
            return "in", f"{expr(value, 'compare')} in {expr(region, 'in')}"
        case syntax.Where(_, region, predicate):
            return "where", f"{expr(region, 'where')} where {expr(predicate, 'if')}"
        case syntax.Choice(_, condition, then, otherwise):
            return "if", f"{expr(then, 'or')} if {expr(condition, 'or')} else {expr(otherwise, 'if')}"
    raise AssertionError(node)


def _tighter(level: str) -> str:
    return LOOSE[RANK[level] + 1]


def _argument(node: syntax.Argument) -> str:
    name = f"{node.name.name}: " if node.name else ""
    return name + expr(node.value) + (f" {node.order}" if node.order else "")


def _number(value: int | float) -> str:
    """As short as can be read back; a float keeps its point or exponent."""
    text = repr(value)
    return "1e999" if text == "inf" else text
