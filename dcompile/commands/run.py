"""`dcompile run`: answer a prompt with an artifact."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer

from dcompile.commands import console
from dcompile.commands.arguments import ArtifactPath, AsJson, Template, Threads, holes, ids

INTERRUPTED = 130


def run(
    artifact: ArtifactPath,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="A text.")] = None,
    chat: Annotated[str | None, typer.Option("--chat", help="A text, put into the model's chat template.")] = None,
    prompt_ids: Annotated[str | None, typer.Option("--prompt-ids", metavar="1,2,3", help="Token ids.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="The system message before --chat.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", "-n", help="Length of the answer.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 is greedy.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Draw among the k most likely tokens; 0 is off.")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="Draw among the most likely share.")] = None,
    min_p: Annotated[
        float | None, typer.Option("--min-p", help="Draw among tokens this likely beside the best.")
    ] = None,
    repetition_penalty: Annotated[float | None, typer.Option("--repetition-penalty", help="1 is off.")] = None,
    ban: Annotated[str, typer.Option("--ban", metavar="1,2,3", help="Token ids that are never written.")] = "",
    min_length: Annotated[int, typer.Option("--min-length", help="Tokens before an end may come.")] = 0,
    eos_ids: Annotated[str | None, typer.Option("--eos-ids", metavar="1,2,3", help="Replace the model's eos.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="A text that ends the answer; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the random draws.")] = None,
    template: Template = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt. Text streams where the loop of the artifact is cut; Ctrl-C ends with what is there."""
    given = [x for x in (prompt, chat, prompt_ids) if x is not None]
    if len(given) != 1:
        raise typer.BadParameter("give one of --prompt, --chat and --prompt-ids", param_hint="prompt")
    if system is not None and chat is None:
        raise typer.BadParameter("--system needs --chat", param_hint="--system")
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition_penalty, "banned_tokens": ids(ban), "min_length": min_length,
        "eos_ids": None if eos_ids is None else ids(eos_ids), "stop": stop or (), "seed": seed,
        "template": holes(template),
    }  # fmt: skip
    question: Any = prompt if prompt_ids is None else ids(prompt_ids)
    from dcompile.session import load

    session = load(artifact, threads)
    if chat is not None:
        asked = [{"role": "user", "content": chat}]
        question = session.chat([{"role": "system", "content": system}, *asked] if system is not None else asked)
    if session.artifact.manifest.loop == "inside":
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to keep before the end, so Ctrl-C need not wait for it
    _answer(session.stream(question, **options), as_json)


def _answer(stream: Any, as_json: bool) -> None:
    for piece in stream:
        if not as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    result = stream.result
    if as_json:
        console.print_json(result.as_dict())
    else:
        sys.stdout.write("\n" if result.text is not None else f"{','.join(map(str, result.output_ids))}\n")
        sys.stdout.flush()
        console.say(
            f"{len(result.output_ids)} tokens in {result.seconds:.2f} s, {result.model_calls} model calls, "
            f"ended by {result.finish_reason}" + (f", seed {result.seed}" if result.seed else "")
        )
    if result.finish_reason == "interrupted":
        raise typer.Exit(INTERRUPTED)
