"""`conductor certs`: the authority behind the certificates of a control plane that listens on a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from claude_conductor.cli import commands, output, session
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.identity import files
from claude_conductor.v1 import certificate_service_pb2 as pb

app = commands.app("Show, issue and rotate certificates.", group=True)

COLUMNS = (
    Column("KIND", lambda each: each.kind, least=12),
    Column("SHA-256", lambda each: each.sha256[:32]),
    Column("FROM", lambda each: output.moment(each.begin_time)),
    Column("UNTIL", lambda each: output.moment(each.end_time)),
)


@app.command()
def show(form: FormatOption = Format.TABLE) -> None:
    """Show the roots, the intermediate and the control plane's own certificate."""
    session.run(_show(form))


@app.command()
def issue(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent it is for.")],
    folder: Annotated[Path, typer.Option("--to", help="Folder for key.pem, certificate.pem and trust.pem.")],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite what is there.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Make a key and have its certificate signed; for sidecars that are started by hand. Others use `conductor join`."""
    session.run(_issue(agent, folder.expanduser().resolve(), replace=replace))


@app.command("rotate-ca")
def rotate_ca() -> None:
    """Replace the authority while everything runs; what it signed before is accepted until that ends."""
    session.run(_rotate())


async def _show(form: Format) -> None:
    async with session.connect() as conductor:
        authority = await conductor.certificates.authority()
    output.show_rows(form, list(authority.certificates), COLUMNS, _name, "")


def _name(certificate: pb.Certificate) -> str:
    return certificate.sha256


async def _issue(agent_id: str, folder: Path, *, replace: bool) -> None:
    from claude_conductor.identity import keys  # noqa: PLC0415 - OpenSSL, only where it is needed

    if (folder / files.KEY).exists() and not replace:
        raise InvalidArgumentError("There is a key in this folder already.", next_step="add --replace", folder=folder)
    key = keys.new_key()
    async with session.connect() as conductor:
        signed = await conductor.certificates.issue(keys.request(key), agent_id)
    files.write(folder, files.Identity(key, signed.chain_pem.encode(), signed.trust_pem.encode()))
    say(f"{agent_id}: key, certificate and roots are in {folder}; the certificate is valid for an hour")


async def _rotate() -> None:
    async with session.connect() as conductor:
        root = await conductor.certificates.rotate()
    say(f"the authority was replaced; its root is {root}")
