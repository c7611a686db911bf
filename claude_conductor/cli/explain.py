"""`conductor explain`: cause, check and fix for every reason an error can have."""

from __future__ import annotations

import difflib
from typing import Annotated, Final

import typer

from claude_conductor import errors
from claude_conductor.cli import commands, exits, output
from claude_conductor.cli.explanations import EXPLANATIONS
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.errors import InvalidArgumentError

app = commands.app("Explain an error: cause, check, fix.")

BY_REASON: Final = {error.reason: error for error in reversed(errors.ALL)}


def reasons(incomplete: str = "") -> list[str]:
    """Return every reason there is."""
    return sorted(reason for reason in BY_REASON if reason.startswith(incomplete.upper()))


@app.command()
def explain(
    reason: Annotated[
        str, typer.Argument(autocompletion=reasons, help="Such as ISOLATION_REFUSED; without one, all are listed.")
    ] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Explain the reason of an error: cause, check, fix."""
    if not reason:
        rows = [_plain(each) for each in reasons()]
        columns = (
            Column("REASON", lambda row: str(row["reason"])),
            Column("EXIT", lambda row: str(row["exit_code"])),
            Column("MEANS", lambda row: str(row["means"])),
        )
        output.show_rows(form, rows, columns, lambda row: str(row["reason"]), "")
        return
    name = reason.strip().upper().replace("-", "_").replace(" ", "_")
    if name not in BY_REASON:
        near = difflib.get_close_matches(name, BY_REASON, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise InvalidArgumentError(
            "There is no such reason.", next_step=f"{meant}`conductor explain` lists them all", reason=reason
        )
    row = _plain(name)
    output.show_one(form, row, lambda: [(title, str(value)) for title, value in row.items()], name)


def _plain(reason: str) -> dict[str, object]:
    error = BY_REASON[reason]
    explanation = EXPLANATIONS[reason]
    return {
        "reason": reason,
        "means": error().message,
        "cause": explanation.cause,
        "check": explanation.check,
        "fix": error.advice,
        "exit_code": exits.code(error()),
    }
