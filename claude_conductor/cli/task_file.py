"""Which tasks does a file ask for, and which of them wait for which?

defaults: {repo: ., agent: claude-code}
tasks:
- name: fix
  prompt: fix the failing test
- prompt: review the fix
  type: code_review
  after: fix
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from claude_conductor.cli.request import Request, spec
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.settings import yaml_file
from claude_conductor.settings.yaml_file import Key, Text

MOST_AFTER: Final = 100
"""Tasks that one task waits for, as the control plane takes them."""
_KINDS: Final = {each.name: type(getattr(Request(), each.name)) for each in dataclasses.fields(Request)}
_OWN: Final = ("name", "after")
_BLOCKS: Final = {"tasks", "defaults", "merge"}
_NO_NETWORK: Final = ("setup_network", "setup_networking", "setup_egress")
_EXAMPLE: Final = "tasks:\n  - prompt: ...\n    repo: ."


@dataclass(frozen=True, slots=True)
class Entry:
    """One task of a file."""

    request: Request
    name: str = ""
    """What others in the file call it; empty for none."""
    after: tuple[int, ...] = ()
    """Entries that must have succeeded before it, by their place in the file."""
    depends_on: tuple[str, ...] = ()
    """Tasks outside of the file that must have, by their ids."""

    def label(self, index: int) -> str:
        """Return what people call it."""
        return self.name or f"#{index + 1}"


def open_file(path: Path) -> Text:
    """Read a file of tasks; `-` is standard input.

    Raises:
        SettingsError: It cannot be read or is no YAML.
    """
    if str(path) == "-":
        return yaml_file.parse(sys.stdin.buffer.read(yaml_file.LARGEST + 1), "standard input", "tasks")
    return yaml_file.read(path.expanduser().resolve(), "tasks")


def read(text: Text, base: Request) -> list[Entry]:
    """Return the tasks of a file, each in the words of the command line's flags, in the order of the file.

    Args:
        text: The parsed file.
        base: What was said on the command line. The file's `defaults` win over it, and an entry over these.

    Raises:
        InvalidArgumentError: An unknown key, a value of the wrong sort, a name that is there twice or not at all, or tasks that
            wait for each other; names file and line, and the nearest valid word.
    """
    entries = text.values.get("tasks")
    if not isinstance(entries, list) or not entries or not set(text.values) <= _BLOCKS:
        raise InvalidArgumentError(
            "A file of tasks has a key `tasks` with a list of at least one, and perhaps `defaults` and `merge`.",
            next_step=_EXAMPLE,
            file=text.source,
        )
    defaults = text.values.get("defaults") or {}
    base = _request(defaults, ("defaults",), text, base, ())
    found = [_request(entry, ("tasks", index), text, base, _OWN) for index, entry in enumerate(entries)]
    names = _names(entries, text)
    made = []
    for index, (entry, request) in enumerate(zip(entries, found, strict=True)):
        _check(request, index, text)
        after, others = _after(entry, index, names, text)
        name = next((name for name, place in names.items() if place == index), "")
        made.append(Entry(request, name, after, others))
    if circle := cycle(made):
        said = " -> ".join(made[index].label(index) for index in circle)
        raise _wrong(f"These tasks wait for each other: {said}.", "leave one `after` out", text, ("tasks", circle[0], "after"))
    return made


def in_order(entries: Sequence[Entry]) -> list[int]:
    """Return the places of entries so that each comes behind those it waits for, else in the order of the file.

    There is no circle in them.
    """
    done: dict[int, None] = {}
    while len(done) < len(entries):
        for index, entry in enumerate(entries):
            if index not in done and all(other in done for other in entry.after):
                done[index] = None
    return list(done)


def cycle(entries: Sequence[Entry]) -> list[int]:
    """Return a circle of entries that wait for each other, its first one again at the end; empty if there is none."""
    finished: set[int] = set()
    for start in range(len(entries)):
        way: list[int] = []
        ahead = [[start]]
        while ahead:
            if not ahead[-1]:
                ahead.pop()
                if way:
                    finished.add(way.pop())
                continue
            index = ahead[-1].pop()
            if index in way:
                return [*way[way.index(index) :], index]
            if index not in finished:
                way.append(index)
                ahead.append(list(entries[index].after))
    return []


def _request(entry: object, place: Key, text: Text, base: Request, more: Sequence[str]) -> Request:
    if not isinstance(entry, dict):
        what = "The defaults are" if place == ("defaults",) else "A task is"
        raise _wrong(f"{what} a block of keys with values.", _EXAMPLE, text, place)
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key in more:
            continue
        if key in _NO_NETWORK:
            raise _wrong(
                f"`{key}`: a set-up has no network at the levels strict and moderate, as no sandbox has.",
                "leave it out; let the set-up use what the workspace or a toolchain folder holds",
                text,
                (*place, key),
            )
        if key not in _KINDS:
            near = difflib.get_close_matches(str(key), [*_KINDS, *more], n=1, cutoff=0.0)
            raise _wrong(f"Unknown key `{key}`.", f"the nearest valid one is `{near[0]}`", text, (*place, key))
        values[key] = _value(_KINDS[key], key, value, text, (*place, key))
    return dataclasses.replace(base, **values)


def _value(kind: type, key: str, value: object, text: Text, place: Key) -> object:
    if kind is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if kind is str and isinstance(value, dt.date):  # YAML reads a time without quotes as one
        return value.isoformat()
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is tuple and isinstance(value, list):
        return tuple(str(item) for item in value)
    if kind is dict and isinstance(value, dict):
        return {str(name): str(item) for name, item in value.items()}
    wanted = {str: "a text", int: "a whole number", bool: "true or false", tuple: "a list", dict: "a block of names with values"}
    raise _wrong(f"`{key}` is {wanted[kind]}.", "correct it", text, place)


def _names(entries: Sequence[Mapping[str, object]], text: Text) -> dict[str, int]:
    """Return the place of each name."""
    names: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if "name" not in entry:
            continue
        place: Key = ("tasks", index, "name")
        name = str(_value(str, "name", entry["name"], text, place))
        if not name or name.startswith(("#", "task_")):
            raise _wrong("A name is a word that does not begin with `#` or `task_`.", "choose another", text, place)
        if name in names:
            first = text.lines.get(("tasks", names[name], "name"), 1)
            raise _wrong(f"The name `{name}` is there twice, first in line {first}.", "choose another", text, place)
        names[name] = index
    return names


def _after(
    entry: Mapping[str, object], index: int, names: Mapping[str, int], text: Text
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return which entries, and which tasks outside, an entry waits for."""
    place: Key = ("tasks", index, "after")
    wanted = entry.get("after", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
        raise _wrong("`after` is a name or a list of names.", "correct it", text, place)
    if len(wanted) > MOST_AFTER:
        raise _wrong(f"A task waits for at most {MOST_AFTER} others.", "let it wait for fewer", text, place)
    for number, name in enumerate(wanted):
        if name not in names and not name.startswith("task_"):
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
            advice = f"the nearest name is `{near[0]}`" if near else "give the task it waits for a `name`"
            where = (*place, number) if (*place, number) in text.lines else place
            raise _wrong(f"No task of the file is called `{name}`.", advice, text, where)
    return (
        tuple(dict.fromkeys(names[name] for name in wanted if name in names)),
        tuple(dict.fromkeys(name for name in wanted if name not in names)),
    )


def _check(request: Request, index: int, text: Text) -> None:
    """Refuse what the command line would refuse, with its place in the file."""
    try:
        spec(request)
    except InvalidArgumentError as problem:
        flags = [("tasks", index, name.removeprefix("--")) for name in problem.details]
        place = next((flag for flag in flags if flag in text.lines), ("tasks", index))
        raise InvalidArgumentError(
            problem.message,
            next_step=problem.next_step,
            **{**problem.details, "file": text.source, "line": text.lines.get(place, 1)},
        ) from problem


def _wrong(message: str, next_step: str, text: Text, place: Key) -> InvalidArgumentError:
    while place and place not in text.lines:
        place = place[:-1]
    return InvalidArgumentError(message, next_step=next_step, file=text.source, line=text.lines.get(place, 1))
