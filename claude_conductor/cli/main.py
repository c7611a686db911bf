"""The entry of `conductor`: runs one verb, turns every failure into a sentence and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from claude_conductor import __version__
from claude_conductor.cli import complaint, exits
from claude_conductor.cli.commands import LazyGroup
from claude_conductor.errors import ConductorError
from claude_conductor.settings.home import find

app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    epilog="Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 unavailable, 6 timeout, 130 interrupted.",
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer passes it so
    if wanted:
        sys.stdout.write(f"conductor {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    context: Annotated[str, typer.Option("--context", help="Talk to this place; `conductor context list` shows them.")] = "",
) -> None:
    """Claude Conductor runs a fleet of coding agents in parallel, each isolated from the others and from you."""
    del version
    if context:
        os.environ["CONDUCTOR_CONTEXT"] = context


def main() -> None:
    """Run the command line of this process and end it."""
    command = typer.main.get_command(app)
    code = run(command, sys.argv[1:])
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    sys.exit(code)


def run(command: TyperGroup | object, arguments: list[str]) -> int:
    """Run a command and return its exit code; nothing but the end of the process escapes.

    Args:
        command: Typer's.
        arguments: Without the program's name.
    """
    try:
        result = command.main(arguments, prog_name="conductor", standalone_mode=False)  # type: ignore[union-attr]  # typer's private base
    except ConductorError as error:
        complaint.show(error)
        return exits.code(error)
    except (KeyboardInterrupt, typer.Abort):
        complaint.note("interrupted")
        return exits.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone; what is still buffered has nowhere to go (Python's documentation of SIGPIPE).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILURE
    except Exception as error:  # noqa: BLE001 - the outermost handler: a person gets a sentence, never a traceback
        return _unexpected(error)
    return result if isinstance(result, int) else exits.OK


def _unexpected(error: Exception) -> int:
    usage = getattr(error, "format_message", None)
    if usage is not None:  # typer's own: a wrong argument
        if not usage():  # none at all: the help was shown already
            return exits.USAGE
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "conductor"
        complaint.tell(usage(), next_step=f"`{path} --help` shows what there is")
        return exits.USAGE
    where = _keep(error)
    complaint.tell(
        f"The command line itself failed: {type(error).__name__}: {error}",
        next_step=f"report it with the details in {where}" if where else "report it",
    )
    return exits.FAILURE


def _keep(error: Exception) -> Path | None:
    """Write the traceback to the log of the command line; None where that is not possible."""
    try:
        path = find(os.environ).logs / "cli.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + "".join(traceback.format_exception(error)))
    except (OSError, ConductorError):
        return None
    return path


if __name__ == "__main__":
    main()
