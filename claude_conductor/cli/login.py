"""`conductor login`: talk to a control plane on a network from now on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from claude_conductor.cli import commands, session
from claude_conductor.cli.context import LOCAL
from claude_conductor.cli.output import say
from claude_conductor.client import Conductor
from claude_conductor.client.joining import root_at
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.identity.files import write_private
from claude_conductor.ids import check_name
from claude_conductor.rpc.channel import Tls
from claude_conductor.settings.home import Home, find
from claude_conductor.settings.place import Context, read_contexts, write_contexts
from claude_conductor.settings.secret import Secret

app = commands.app("Talk to a control plane on a network, with a token.")


@app.command()
def login(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="HOST:PORT of its `listen.clients`.")],
    name: Annotated[str, typer.Option("--name", help="What to call it, in `conductor context list`.")] = "",
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token; without it you are asked, or a pipe is read."),
    ] = None,
) -> None:
    """Check a token and whom it is for, and use that control plane from now on."""
    chosen = check_name("context", name or address.rpartition(":")[0].strip("[]").lower())
    if chosen == LOCAL:
        raise InvalidArgumentError("`local` is this home's own control plane.", next_step="choose another name with --name")
    session.run(_login(find(os.environ), address, chosen, _token(token_file)))


def _token(path: Path | None) -> str:
    if path is not None:
        try:
            return path.expanduser().read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as cause:
            raise InvalidArgumentError("The token file cannot be read.", file=path, cause=cause) from cause
    if sys.stdin.isatty():
        return str(typer.prompt("Token", hide_input=True)).strip()
    return sys.stdin.readline().strip()


async def _login(home: Home, address: str, name: str, token: str) -> None:
    root = await root_at(address, token)
    async with Conductor(address, Secret(token), Tls(root)) as conductor:
        status = await conductor.admin.status()
    folder = home.contexts.parent
    token_path, trust_path = folder / f"{name}.token", folder / f"{name}.pem"
    write_private(token_path, token.encode() + b"\n")
    write_private(trust_path, root)
    _, contexts = read_contexts(home)
    before = contexts.get(name)
    contexts[name] = Context(name, address, str(token_path), before.settings if before else None, str(trust_path))
    write_contexts(home, name, contexts)
    say(f"{name} ({address}, version {status.version}) is in use from now on; `conductor context use local` goes back")
