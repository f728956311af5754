"""The command line. Exit codes: 0 done, 1 the user's input is wrong, 2 the command line is wrong, 70 a bug of ours."""

from __future__ import annotations

import signal
import sys
import traceback

import typer

from dcompile.commands import bench, build, check, console, doctor, explain, format, run, show, strategies, tune, verify
from dcompile.diagnostic import CompileError
from dcompile.settings import from_environment
from dcompile.version import VERSION

USER, BUG, INTERRUPTED = 1, 70, 130

app = typer.Typer(
    name="dcompile",
    help="A compiler for decoding strategies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("check")(check.check)
app.command("show")(show.show)
app.command("build")(build.build)
app.command("run")(run.run)
app.command("verify")(verify.verify)
app.command("bench")(bench.bench)
app.command("explain")(explain.explain)
app.command("tune")(tune.tune)
app.command("strategies")(strategies.strategies)
app.command("format")(format.format)
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True)) -> None:
    if version:
        typer.echo(VERSION)
        raise typer.Exit


def main() -> None:
    """The entry point of the `dcompile` command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, so a build cleans up
    sys.exit(guarded())


def guarded() -> int:
    """Run the command line and turn what it raises into an exit code."""
    try:
        app()
    except CompileError as e:
        console.show_diagnostics(e)
        return USER
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone
        sys.stderr.close()
        return INTERRUPTED
    except OSError as e:
        console.problem(f"error[system]: {e}")
        return USER
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 0
    except Exception as e:
        _bug(e)
        return BUG
    return 0


def _bug(e: Exception) -> None:
    if from_environment().debug:
        traceback.print_exception(e)
    console.problem(f"dcompile: a bug of ours: {type(e).__name__}: {e}")
    if not from_environment().debug:
        console.problem("  = help: set DCOMPILE_DEBUG=1 to see where, and please report it")


if __name__ == "__main__":
    main()
