"""`conductor dlq`: messages that were shown to too many agent processes: look at them, send them again, remove them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from claude_conductor.cli import commands, complaint, exits, messages, output, session
from claude_conductor.cli.completion import agent_ids, dead_letter_ids
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.client import Conductor
from claude_conductor.errors import InvalidArgumentError, MessageNotDeadError
from claude_conductor.rpc.status import from_reason
from claude_conductor.v1 import message_pb2, message_service_pb2

app = commands.app("List, show, send again and remove dead letters.", group=True)

DEAD = message_pb2.MESSAGE_STATE_DEAD
MOST = 1_000_000
"""Dead letters `--all` takes at most."""

COLUMNS = (
    Column("MESSAGE", lambda record: record.message_id, least=output.ID_WIDTH),
    Column("FROM", lambda record: record.sender),
    Column("TO", lambda record: record.recipient),
    Column("TYPE", lambda record: record.type, wide=True),
    Column("ATTEMPTS", lambda record: str(record.attempts), least=8),
    Column("SENT AGAIN", lambda record: str(record.redrives), wide=True),
    Column("DEAD FOR", lambda record: output.age(record.state_time)),
    Column("WHY", lambda record: record.last_error or record.reason),
    Column("REASON", lambda record: record.reason, wide=True),
)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MESSAGE]...", autocompletion=dead_letter_ids, parser=messages.whole, help="Ids of dead letters."),
]
RecipientOption = Annotated[str, typer.Option("--recipient", "--to", autocompletion=agent_ids, help="Only in this mailbox.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter there is (with --recipient: in that mailbox).")]


@app.command("list")
def list_(
    recipient: RecipientOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """List dead letters, newest first."""

    async def run() -> None:
        async with session.connect() as conductor:
            records = await conductor.messages.list(limit=limit, recipient=recipient, states=[DEAD])
        output.show_rows(form, records, COLUMNS, lambda record: record.message_id, "no dead letters")

    session.run(run())


@app.command()
def show(
    message: Annotated[str, typer.Argument(autocompletion=dead_letter_ids, parser=messages.whole, help="Id of a dead letter.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one dead letter: why it died, how its last reader ended, its way and what it says."""

    async def run() -> None:
        async with session.connect() as conductor:
            records = await conductor.messages.get(message)
        dead = [record for record in records if record.state == DEAD]
        if not dead:
            raise MessageNotDeadError(f"The message is no dead letter; it is {messages.state(records[0])}.", message_id=message)
        messages.show_records(form, dead)

    session.run(run())


@app.command()
def redrive(
    message: Ids = None,
    every: AllOption = False,  # noqa: FBT002 - a flag
    recipient: RecipientOption = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Send dead letters again: each goes to the end of its mailbox, and is tried as often as a new message.

    What its sender wrote to the same recipient meanwhile comes first. Exit code 1 if one could not be sent again.
    """
    _check(message, recipient, every=every)

    async def run() -> int:
        async with session.connect() as conductor:
            ids = message or await _every(conductor, recipient)
            outcomes = await conductor.messages.redrive(ids, recipient=recipient)
        return _tell(outcomes, "sent again", form)

    raise typer.Exit(session.run(run()))


@app.command()
def purge(
    message: Ids = None,
    every: AllOption = False,  # noqa: FBT002 - a flag
    recipient: RecipientOption = "",
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before --all.")] = False,  # noqa: FBT002
    form: FormatOption = Format.TABLE,
) -> None:
    """Remove dead letters for good; the event log keeps that they were removed, and by whom.

    Exit code 1 if one could not be removed.
    """
    _check(message, recipient, every=every)

    async def run() -> int:
        async with session.connect() as conductor:
            ids = message or await _every(conductor, recipient)
            if not message and ids and not yes and not _confirmed(len(ids), recipient):
                complaint.note("nothing was removed")
                return exits.FAILURE
            outcomes = await conductor.messages.purge(ids, recipient=recipient)
        return _tell(outcomes, "removed", form)

    raise typer.Exit(session.run(run()))


def _check(ids: Sequence[str] | None, recipient: str, *, every: bool) -> None:
    if bool(ids) == every:
        step = f"--all{f' --recipient {recipient}' if recipient else ''} takes every one, `conductor dlq list` shows their ids"
        raise InvalidArgumentError("Either ids of dead letters or --all is needed.", next_step=step)


async def _every(conductor: Conductor, recipient: str) -> list[str]:
    """Return the ids of every dead letter, the oldest first."""
    records = await conductor.messages.list(limit=MOST, recipient=recipient, states=[DEAD])
    return list(dict.fromkeys(record.message_id for record in reversed(records)))


def _confirmed(count: int, recipient: str) -> bool:
    where = f" in the mailbox {recipient}" if recipient else ""
    if not sys.stdin.isatty():
        raise InvalidArgumentError(
            f"{count} dead letters{where} would be removed for good, and there is nobody to ask.", next_step="say it with --yes"
        )
    return typer.confirm(f"Remove {count} dead letters{where} for good?", err=True)


def _tell(outcomes: Sequence[message_service_pb2.LetterOutcome], done: str, form: Format) -> int:
    """Show what became of each; a single refusal is an error of its own."""
    if len(outcomes) == 1 and outcomes[0].reason:
        (only,) = outcomes
        raise from_reason(only.reason, only.message, only.next_step, message_id=only.message_id)
    columns = (
        Column("MESSAGE", lambda outcome: outcome.message_id, least=output.ID_WIDTH),
        Column("TO", lambda outcome: outcome.recipient),
        Column("OUTCOME", lambda outcome: outcome.message or done, least=12),
    )
    output.show_rows(form, outcomes, columns, lambda outcome: outcome.message_id, "no dead letters")
    refused = sum(bool(outcome.reason) for outcome in outcomes)
    if refused and form in (Format.TABLE, Format.WIDE):
        complaint.note(f"{len(outcomes) - refused} {done}, {refused} not")
    return exits.FAILURE if refused else exits.OK
