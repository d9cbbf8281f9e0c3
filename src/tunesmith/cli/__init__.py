"""The command line: parse, call, print. ``options`` shows what a command looks like."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import tunesmith
from tunesmith.cli import ask, base, compare, data, gate, ledger, merge, new, review, stages, task
from tunesmith.cli.output import report_error, say
from tunesmith.errors import UserError

# Every verb group, in the order of the help. A group is a module with register(app).
GROUPS = (new, data, compare, stages, gate, review, ask, merge, base, task, ledger)

STOPPED = 130  # what shells call "ended by Ctrl-C", and what typer turns a KeyboardInterrupt into


def build() -> typer.Typer:
    """The command line with every group registered."""
    app = typer.Typer(
        help="Fine-tuning with proof: from a raw file to a verdict you can trust.",
        # Plain help and plain tracebacks: rich would double the time that --help takes.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback(invoke_without_command=True)(_root)
    for group in GROUPS:
        group.register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 a check failed, 2 usage or bad input, 3 could not be measured, 130 stopped by Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    try:
        code = build()(arguments, prog_name="tunesmith", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        report_error(error, as_json)
        return error.exit_code
    except typer.TyperException as error:
        report_error(_usage_error(error), as_json)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = STOPPED
    except BrokenPipeError:
        # The reader has gone (`| head`). Python flushes stdout once more at exit; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if code == STOPPED:
        say("stopped; run the same command to continue")
    return code if isinstance(code, int) else 0


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"tunesmith {tunesmith.__version__}\n")
    elif context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def _usage_error(error: typer.TyperException) -> UserError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "tunesmith"
    return UserError(error.format_message(), f"`{command} --help` shows how it is used")
