"""`conductor audit`: what was decided and changed, by whom, and whether the record of it is whole."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from claude_conductor.audit_chain import Head, Record, first_flaw, signed_text
from claude_conductor.cli import commands, output, session
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.client.audit import Chain
from claude_conductor.errors import AuditBrokenError, InvalidArgumentError

app = commands.app("List, check and export the audit chain.", group=True)

COLUMNS = (
    Column("NUMBER", lambda each: str(each.number)),
    Column("TIME", lambda each: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.time))),
    Column("ACTOR", lambda each: output.printable(each.actor) or "-"),
    Column("ACTION", lambda each: each.action),
    Column("OUTCOME", lambda each: each.outcome),
    Column("TARGET", lambda each: output.printable(each.target) or "-"),
    Column("TENANT", lambda each: each.tenant or "-", wide=True),
    Column("HASH", lambda each: each.hash[:16], wide=True),
)


@app.command("list")
def list_(
    last: Annotated[int, typer.Option("--last", min=1, help="Only the newest.")] = 50, form: FormatOption = Format.TABLE
) -> None:
    """List what was decided and changed, oldest first."""
    records = session.run(_records())[-last:]
    output.show_rows(
        form, [asdict(each) for each in records] if form in (Format.JSON, Format.YAML) else records, COLUMNS, _name, ""
    )


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An export to check, offline; otherwise the control plane is asked.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="public.pem as you keep it; otherwise the chain's own.")] = None,
) -> None:
    """Check every hash and signature; name the first record that is not what was written."""
    chain = session.run(_chain()) if file is None else read(file)
    public = key.read_bytes() if key is not None else chain.public_key.encode()
    from claude_conductor.identity import signing  # noqa: PLC0415 - OpenSSL, only where it is needed

    def signed(head: Head) -> bool:
        return signing.verified(public, signed_text(head.number, head.hash, head.time), head.signature)

    flaw = first_flaw(chain.records, chain.heads, signed)
    if flaw is not None:
        raise AuditBrokenError(f"Record {flaw.number} is not what was written: {flaw.why}.", record=flaw.number)
    newest = max((head.number for head in chain.heads), default=0)
    say(f"{len(chain.records)} records are as they were written; {newest} of them are under a signature")


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="For `conductor audit verify FILE`.")],
) -> None:
    """Write the whole chain with its signatures to a file, one JSON object a line."""
    chain = session.run(_chain())
    lines: list[dict[str, Any]] = [{"public_key": chain.public_key}]
    lines += [{"record": asdict(each)} for each in chain.records] + [{"head": asdict(each)} for each in chain.heads]
    to.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    say(
        f"{len(chain.records)} records and {len(chain.heads)} signatures are in {to}; keep a copy where nobody here can change it"
    )


def read(file: Path) -> Chain:
    """Return the chain of an export.

    Raises:
        InvalidArgumentError: It is none.
    """
    records: list[Record] = []
    heads: list[Head] = []
    public = ""
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            match json.loads(line):
                case {"record": said}:
                    records.append(Record(**said))
                case {"head": said}:
                    heads.append(Head(**said))
                case {"public_key": str(said)}:
                    public = said
                case _:
                    raise InvalidArgumentError("This is no export of an audit chain.", file=file)
    except (OSError, ValueError, TypeError) as cause:
        raise InvalidArgumentError("This is no export of an audit chain.", file=file, cause=cause) from cause
    return Chain(tuple(records), tuple(heads), public)


def _name(record: Any) -> str:  # noqa: ANN401 - a record, or a mapping of it
    return str(record["number"] if isinstance(record, dict) else record.number)


async def _records() -> list[Record]:
    async with session.connect() as conductor:
        return await conductor.audit.records()


async def _chain() -> Chain:
    async with session.connect() as conductor:
        return await conductor.audit.chain()
