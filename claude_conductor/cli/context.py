"""`conductor context`: which control plane the command line talks to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from claude_conductor.cli import commands, output
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.errors import InvalidArgumentError, SettingsError
from claude_conductor.ids import check_name
from claude_conductor.settings.home import find
from claude_conductor.settings.place import Context, current, read_contexts, write_contexts

app = commands.app("Choose which control plane to talk to.", group=True)

LOCAL = "local"


def names(incomplete: str) -> list[str]:
    """Return the contexts there are."""
    try:
        _, contexts = read_contexts(find(os.environ))
    except SettingsError:
        return []
    return [name for name in sorted({LOCAL, *contexts}) if name.startswith(incomplete)]


@app.command("list")
def list_(form: FormatOption = Format.TABLE) -> None:
    """List the contexts there are; * marks the one in use."""
    home = find(os.environ)
    _, contexts = read_contexts(home)
    used = current(home, os.environ).name
    rows = [
        {
            "used": "*" if name == used else "",
            "name": name,
            "address": entry.address or f"unix:{home.socket}",
            "token": entry.token_file,
        }
        for name, entry in sorted({LOCAL: Context(LOCAL), **contexts}.items())
    ]
    columns = (
        Column("", lambda row: row["used"]),
        Column("CONTEXT", lambda row: row["name"]),
        Column("ADDRESS", lambda row: row["address"]),
        Column("TOKEN FILE", lambda row: row["token"] or "-"),
    )
    output.show_rows(form, rows, columns, lambda row: row["name"], "")


@app.command()
def use(name: Annotated[str, typer.Argument(autocompletion=names, help="Name of a context; local is this home.")]) -> None:
    """Talk to this control plane from now on."""
    home = find(os.environ)
    _, contexts = read_contexts(home)
    if name != LOCAL and name not in contexts:
        raise InvalidArgumentError(
            "There is no context of this name.", next_step=f"there are: {', '.join(sorted({LOCAL, *contexts}))}", context=name
        )
    write_contexts(home, "" if name == LOCAL else name, contexts)
    say(f"{name} is in use")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the new context.")],
    address: Annotated[str, typer.Option("--address", help="unix:/path/control.sock, or HOST:PORT.")],
    token_file: Annotated[Path | None, typer.Option("--token-file", help="File with the token, readable by you only.")] = None,
    trust_file: Annotated[
        Path | None, typer.Option("--trust-file", help="Roots of its authority, PEM; without it the system's are used.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change one that is there already.")] = False,  # noqa: FBT002
) -> None:
    """Give a control plane a name."""
    check_name("context", name)
    if name == LOCAL:
        raise InvalidArgumentError("`local` is this home's own control plane.", next_step="choose another name")
    host, _, port = address.rpartition(":")
    if not address.startswith("unix:/") and (not host or not port.isdecimal()):
        raise InvalidArgumentError(
            "This is no address of a control plane.",
            next_step="write it as unix:/path/control.sock, or HOST:PORT of its `listen.clients`",
            address=address,
        )
    home = find(os.environ)
    chosen, contexts = read_contexts(home)
    if name in contexts and not replace:
        raise InvalidArgumentError(
            "There is a context of this name already.", next_step="add --replace, or choose another", context=name
        )
    contexts[name] = Context(name, address, _absolute(token_file), trust_file=_absolute(trust_file))
    write_contexts(home, chosen, contexts)
    say(f"added; `conductor context use {name}` talks to it from now on, `conductor --context {name} ...` once")


def _absolute(path: Path | None) -> str:
    return str(path.expanduser().resolve()) if path else ""
