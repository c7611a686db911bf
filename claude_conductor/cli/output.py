"""How is a result shown: as a table for people, or as JSON, YAML or names for programs?"""

from __future__ import annotations

import datetime as dt
import enum
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from claude_conductor.settings import yaml_file
from claude_conductor.units import format_duration

_Row = TypeVar("_Row")

_GAP: Final = 2
"""Characters between columns."""
ID_WIDTH: Final = 22
"""So much of an id tells it from others: its time, and twelve bits more."""


class Format(enum.StrEnum):
    """Ways to show a result."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


FormatOption = Annotated[
    Format, typer.Option("-o", "--output", envvar="CONDUCTOR_OUTPUT", help="How to show the result.", show_envvar=False)
]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    value: Callable[[Any], str]
    wide: bool = False
    """Only with `-o wide`."""
    least: int = 6
    """Characters that are left of it where a terminal is too narrow."""


def say(text: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(text + "\n")


def show_rows(form: Format, rows: Sequence[_Row], columns: Sequence[Column], name: Callable[[_Row], str], empty: str) -> None:
    """Show a list.

    Args:
        form: How.
        rows: Messages or plain dictionaries.
        columns: Of the table.
        name: What `-o name` prints for each.
        empty: What a table says when there is nothing.
    """
    if form is Format.NAME:
        for row in rows:
            say(name(row))
    elif form in (Format.JSON, Format.YAML):
        _write(form, [plain(row) for row in rows])
    elif not rows:
        say(empty)
    else:
        table(rows, [column for column in columns if form is Format.WIDE or not column.wide])


def show_one(form: Format, row: object, lines: Callable[[], Sequence[tuple[str, str]]], name: str) -> None:
    """Show one thing: its facts as lines, or the whole as JSON or YAML."""
    if form is Format.NAME:
        say(name)
    elif form in (Format.JSON, Format.YAML):
        _write(form, plain(row))
    else:
        facts(lines())


def facts(lines: Sequence[tuple[str, str]]) -> None:
    """Write names and values, one a line; empty values are left out, further lines of a value are indented."""
    shown = [(title, value) for title, value in lines if value]
    width = max((len(title) for title, _ in shown), default=0) + 2
    for title, value in shown:
        first, *rest = value.splitlines()
        say(f"{title + ':':<{width}}{first}")
        for line in rest:
            say(" " * width + line)


def table(rows: Sequence[Any], columns: Sequence[Column]) -> None:
    """Write a table: cut to the terminal's width on one, never cut in a pipe."""
    target = console()
    target.print(grid(rows, columns, target.width), markup=False, highlight=False)


def grid(rows: Sequence[Any], columns: Sequence[Column], width: int) -> Table:
    """Return a table that is at most `width` characters wide, if its columns can give way so far."""
    cells = [[printable(column.value(row)) for column in columns] for row in rows]
    wanted = [max(cell_len(text) for text in texts) for texts in zip([each.title for each in columns], *cells, strict=True)]
    room = width - _GAP * (len(columns) - 1)
    found = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for column, most in zip(columns, widths(wanted, [each.least for each in columns], room), strict=True):
        found.add_column(column.title, no_wrap=True, overflow="ellipsis", width=most)
    for texts in cells:
        found.add_row(*texts)
    return found


def widths(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return how wide columns are so that they fit: the widest give way first, none below its least.

    Args:
        wanted: Characters each would fill.
        least: Characters each keeps, where it would fill them.
        room: Characters there are for all.
    """
    found = list(wanted)
    while sum(found) > room:
        shrinkable = [index for index, width in enumerate(found) if width > least[index]]
        if not shrinkable:
            break
        found[max(shrinkable, key=found.__getitem__)] -= 1
    return found


def console() -> Console:
    """Return the console of standard output; colours only on a terminal and without NO_COLOR."""
    return Console(file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else 4096, soft_wrap=False)


def plain(row: object) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Return what JSON and YAML show of a row."""
    if isinstance(row, Message):
        return MessageToDict(row, preserving_proto_field_name=True)
    return row


def json_line(row: object) -> str:
    """Return the row as one line of JSON."""
    return json.dumps(plain(row), ensure_ascii=False)


def _write(form: Format, value: Any) -> None:  # noqa: ANN401 - as `plain`
    if form is Format.JSON:
        say(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        sys.stdout.write(yaml_file.dump(value))


def printable(text: str) -> str:
    """Return one line without control characters: what agents write must not steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text.replace("\n", " "))


def printable_lines(text: str) -> str:
    """Return the text without control characters except line ends and tabs."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def age(moment: Timestamp, now: float | None = None) -> str:
    """Return how long ago it was, such as `3.4 s`; empty if it never was."""
    if not moment.seconds:
        return ""
    return format_duration(max(0.0, (time.time() if now is None else now) - moment.ToNanoseconds() / 1e9))


def moment(stamp: Timestamp) -> str:
    """Return a point in time in the local zone; empty if it never was."""
    if not stamp.seconds:
        return ""
    return dt.datetime.fromtimestamp(stamp.ToNanoseconds() / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def word(enum_type: Any, number: int, prefix: str) -> str:  # noqa: ANN401 - protobuf's enum wrappers have no common type
    """Return the name of an enum value for people: `TASK_STATE_QUEUED` is `queued`."""
    name = str(enum_type.Name(number)) if number in enum_type.values() else str(number)
    return name.removeprefix(prefix).lower()
