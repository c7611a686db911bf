"""`conductor tokens`: who may call, as whom, and until when."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from claude_conductor.cli import commands, complaint, output, session
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.cli.request import from_flag
from claude_conductor.units import parse_duration
from claude_conductor.v1 import credential_service_pb2 as pb

app = commands.app("Make, list and revoke tokens.", group=True)

TenantOption = Annotated[str, typer.Option("--tenant", help="Whose it is; yours if you do not say.")]


def standing(token: pb.Token) -> str:
    """Return in a word whether a token is good for anything."""
    if token.HasField("revoke_time"):
        return "revoked"
    if token.HasField("redeem_time"):
        return "used"
    return "valid" if token.end_time.seconds > time.time() else "ended"


COLUMNS = (
    Column("TOKEN", lambda each: each.token_id, least=output.ID_WIDTH),
    Column("ROLE", lambda each: each.role),
    Column("TENANT", lambda each: each.tenant_id),
    Column("STANDING", standing),
    Column("UNTIL", lambda each: output.moment(each.end_time)),
    Column("AGENT", lambda each: each.agent_id or "-"),
    Column("NAME", lambda each: output.printable(each.name) or "-"),
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for, such as `ci` or a person's name.")],
    role: Annotated[str, typer.Option("--role", help="admin, operator or viewer.")] = "operator",
    tenant: TenantOption = "",
    ttl: Annotated[str, typer.Option("--ttl", help="How long it is valid, such as 8h or 90d.")] = "30d",
) -> None:
    """Make a token for a person or a program, and print it; it cannot be shown again."""
    session.run(_create(name, role, tenant, from_flag("--ttl", ttl, parse_duration)))


@app.command("create-join")
def create_join(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent that a sidecar elsewhere becomes.")],
    level: Annotated[str, typer.Option("--level", help="Isolation of its tasks: strict, moderate or minimal.")] = "strict",
    tenant: TenantOption = "",
    ttl: Annotated[str, typer.Option("--ttl", help="How long it is valid, at most 1h.")] = "10m",
) -> None:
    """Make a token with which one sidecar joins, once; print the command to run on its machine."""
    session.run(_create_join(agent, level, tenant, from_flag("--ttl", ttl, parse_duration)))


@app.command("list")
def list_(form: FormatOption = Format.TABLE) -> None:
    """List the tokens that people made, those that ended this week included."""
    session.run(_list(form))


@app.command()
def revoke(token: Annotated[str, typer.Argument(metavar="TOKEN", help="Id of a token.")]) -> None:
    """Revoke a token; streams that were opened with it end at once."""
    session.run(_revoke(token))


async def _create(name: str, role: str, tenant: str, seconds: float) -> None:
    async with session.connect() as conductor:
        made = await conductor.tokens.create(role, name=name, tenant=tenant, seconds=seconds)
    say(made.secret)
    complaint.note(f"{made.token.token_id}: {role} of {made.token.tenant_id} until {output.moment(made.token.end_time)}")


async def _create_join(agent: str, level: str, tenant: str, seconds: float) -> None:
    async with session.connect() as conductor:
        made = await conductor.tokens.create_join(agent, tenant=tenant, seconds=seconds, level=level)
    host, _, port = made.address.rpartition(":")
    reached = made.address if host not in ("0.0.0.0", "[::]", "::") else f"ADDRESS-OF-THIS-MACHINE:{port}"  # noqa: S104 - compared with
    say(f"conductor join {reached} --token {made.secret}")
    complaint.note(f"valid once, until {output.moment(made.token.end_time)}; run it on the machine of {agent}")


async def _list(form: Format) -> None:
    async with session.connect() as conductor:
        tokens = await conductor.tokens.list()
    output.show_rows(form, tokens, COLUMNS, lambda each: each.token_id, "no tokens: `conductor tokens create NAME` makes one")


async def _revoke(token_id: str) -> None:
    async with session.connect() as conductor:
        await conductor.tokens.revoke(token_id)
    say(f"{token_id} is revoked")
