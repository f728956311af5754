"""Drafts that are joined: `draft t = a union b`."""

from __future__ import annotations

from dcompile import trees
from dcompile.diagnostic import CompileError, Diagnostic, Label, suggest
from dcompile.dsl import syntax
from dcompile.dsl.scope import Broken, Context, DraftName, Failed, Scope
from dcompile.strategy import Draft


def join(ctx: Context, scope: Scope, node: syntax.Join) -> Draft:
    """A draft of the texts of several; `drafts.free` has looked at its name."""
    parts = [_part(ctx, scope, part) for part in node.parts]
    for n, (part, found) in enumerate(zip(node.parts, parts, strict=True)):
        if found in parts[:n]:
            ctx.fail("draft-union", f"`{part.name}` is joined with itself", part.span, help="name two drafts")
        if found.tree.facts:
            title = f"nodes of `{part.name}` have more than a token: a lookahead window, or appended rows"
            also = (Label(found.span, "drafted here"),)
            ctx.fail("draft-union", title, part.span, help="`chain`, `expand`, a tree file, `beam`", also=also)
    try:
        tree = trees.joined([p.tree for p in parts])
    except CompileError as e:
        ctx.diagnostics += [Diagnostic(d.code, d.title, Label(node.span), help=d.help) for d in e.diagnostics]
        raise Failed from None
    unique, site = ctx.unique(node.name.name), ctx.drafts
    ctx.drafts += 1
    scope.names[node.name.name] = DraftName(unique, tree, "", None, node.name.span)
    return Draft(node.span, unique, tree, None, None, "", site, of=tuple(p.name for p in parts))


def _part(ctx: Context, scope: Scope, name: syntax.Ident) -> DraftName:
    found = (scope.find(name.name) or (None, None))[1]
    if isinstance(found, Broken):
        raise Failed
    if not isinstance(found, DraftName):
        known = [n for n in scope.visible() if isinstance((scope.find(n) or (0, 0))[1], DraftName)]
        help = suggest(name.name, known, "drafts") if known else "before it: `draft a = chain(4) from last ...`"
        ctx.fail("unknown-draft", f"there is no draft `{name.name}` here", name.span, help=help)
    return found
