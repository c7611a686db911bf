"""Which tasks does a file ask for, and which of them wait for which?

defaults: {repo: ., agent: claude-code}
tasks:
- name: fix
  prompt: fix the failing test
- prompt: review the fix
  type: code_review
  after: fix
- name: docs
  parallel: 2
  prompt: bring the page up to date
  subtasks: [{files: [a.md]}, {files: [b.md]}, {files: [c.md]}]
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
from claude_conductor.v1 import task_pb2
from claude_conductor.v1.task_pb2 import FanOut

MOST_AFTER: Final = 100
"""Tasks that one task waits for, as the control plane takes them."""
_KINDS: Final = {each.name: type(getattr(Request(), each.name)) for each in dataclasses.fields(Request)}
_OWN: Final = ("name", "after")
_GROUP: Final = ("subtasks", "parallel", "on_failure")
_ON_FAILURE: Final = {"finish": task_pb2.SUBTASK_FAILURE_FINISH, "stop": task_pb2.SUBTASK_FAILURE_STOP}
_MOST_AT_ONCE: Final = 1000
_BLOCKS: Final = {"tasks", "defaults", "merge"}
_NO_NETWORK: Final = ("setup_network", "setup_networking", "setup_egress")
_EXAMPLE_GROUP: Final = "subtasks: [{prompt: ...}, {prompt: ...}]"
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
    group: FanOut | None = None
    """Set of one that is a group."""
    within: int | None = None
    """The group before it that it is a subtask of, by its place among the entries."""

    def label(self, index: int) -> str:
        """Return what people call it."""
        return self.name or f"#{index + 1}"


@dataclass(frozen=True, slots=True)
class _Written:
    """A task as the file has it."""

    values: Mapping[str, object]
    place: Key
    request: Request
    group: FanOut | None = None
    within: int | None = None


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
    found = _flat(entries, text, base)
    names = _names(found, text)
    made: list[Entry] = []
    for index, each in enumerate(found):
        if each.group is None:
            _check(each, text)
        after, others = _after(each, names, found, text)
        name = next((name for name, place in names.items() if place == index), "")
        if not name and each.within is not None:
            name = f"{made[each.within].label(each.within)}.{index - each.within}"
        made.append(Entry(each.request, name, after, others, each.group, each.within))
    if circle := cycle(made):
        said = " -> ".join(made[index].label(index) for index in circle)
        where = (*found[circle[0]].place, "after")
        raise _wrong(f"These tasks wait for each other: {said}.", "leave one `after` out", text, where)
    return made


def _flat(entries: Sequence[object], text: Text, base: Request) -> list[_Written]:
    """Return the tasks, each group before its subtasks; what is said of a group counts for those that do not say it."""
    found: list[_Written] = []
    for index, entry in enumerate(entries):
        place: Key = ("tasks", index)
        request = _request(entry, place, text, base, (*_OWN, *_GROUP))
        assert isinstance(entry, dict)
        if not any(key in entry for key in _GROUP):
            found.append(_Written(entry, place, request))
            continue
        subtasks, group = entry.get("subtasks"), _group(entry, place, text)
        if not isinstance(subtasks, list) or not subtasks:
            raise _wrong("A group has `subtasks`, a list of at least one.", _EXAMPLE_GROUP, text, (*place, "subtasks"))
        about = request.prompt or str(entry.get("name", ""))
        title = Request(prompt=about, priority=request.priority, labels=request.labels)
        within = len(found)
        found.append(_Written(entry, place, title, group))
        for number, subtask in enumerate(subtasks):
            where: Key = (*place, "subtasks", number)
            if isinstance(subtask, dict) and any(key in subtask for key in _GROUP):
                raise _wrong("A group has no groups within it.", "let tasks come `after` each other", text, where)
            found.append(_Written(subtask, where, _request(subtask, where, text, request, _OWN), None, within))
    return found


def _group(entry: Mapping[str, object], place: Key, text: Text) -> FanOut:
    parallel, on_failure = entry.get("parallel", True), entry.get("on_failure", "finish")
    if not isinstance(parallel, int) or not (isinstance(parallel, bool) or 1 <= parallel <= _MOST_AT_ONCE):
        what = f"`parallel` is true, false (one at a time), or how many at once, 1 to {_MOST_AT_ONCE}."
        raise _wrong(what, "correct it", text, (*place, "parallel"))
    if on_failure not in _ON_FAILURE:
        what = "`on_failure` is `finish` (the others go on) or `stop` (they are cancelled)."
        raise _wrong(what, "correct it", text, (*place, "on_failure"))
    if budget := next((key for key in entry if str(key).startswith("budget_")), ""):
        raise _wrong(f"A group has no `{budget}` of its own.", "say it of its subtasks, each has its own", text, (*place, budget))
    at_once = 0 if parallel is True else max(1, parallel)
    return FanOut(parallel=at_once, on_failure=_ON_FAILURE[str(on_failure)])


def in_order(entries: Sequence[Entry]) -> list[int]:
    """Return the places of entries so that each comes behind those it waits for, else in the order of the file.

    There is no circle in them.
    """
    done: dict[int, None] = {}
    while len(done) < len(entries):
        for index, entry in enumerate(entries):
            if index not in done and all(other in done for other in _before(entry, entries)):
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
                subtasks = [place for place, each in enumerate(entries) if each.within == index] if entries[index].group else []
                ahead.append([*entries[index].after, *_inherited(entries[index], entries), *subtasks])
    return []


def _inherited(entry: Entry, entries: Sequence[Entry]) -> tuple[int, ...]:
    return () if entry.within is None else entries[entry.within].after


def _before(entry: Entry, entries: Sequence[Entry]) -> tuple[int, ...]:
    """Return what stands before an entry in a request: what it waits for, and its group."""
    return entry.after if entry.within is None else (*entry.after, entry.within)


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


def _names(entries: Sequence[_Written], text: Text) -> dict[str, int]:
    """Return the place of each name."""
    names: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if "name" not in entry.values:
            continue
        place: Key = (*entry.place, "name")
        name = str(_value(str, "name", entry.values["name"], text, place))
        if not name or name.startswith(("#", "task_")):
            raise _wrong("A name is a word that does not begin with `#` or `task_`.", "choose another", text, place)
        if name in names:
            first = text.lines.get((*entries[names[name]].place, "name"), 1)
            raise _wrong(f"The name `{name}` is there twice, first in line {first}.", "choose another", text, place)
        names[name] = index
    return names


def _after(
    entry: _Written, names: Mapping[str, int], found: Sequence[_Written], text: Text
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return which entries, and which tasks outside, an entry waits for."""
    place: Key = (*entry.place, "after")
    wanted = entry.values.get("after", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
        raise _wrong("`after` is a name or a list of names.", "correct it", text, place)
    if len(wanted) > MOST_AFTER:
        raise _wrong(f"A task waits for at most {MOST_AFTER} others.", "let it wait for fewer", text, place)
    for number, name in enumerate(wanted):
        if name in names and found[names[name]].within not in (None, entry.within):
            raise _wrong(f"`{name}` is a subtask of a group, to which others do not look.", "wait for its group", text, place)
        if name not in names and not name.startswith("task_"):
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
            advice = f"the nearest name is `{near[0]}`" if near else "give the task it waits for a `name`"
            where = (*place, number) if (*place, number) in text.lines else place
            raise _wrong(f"No task of the file is called `{name}`.", advice, text, where)
    return (
        tuple(dict.fromkeys(names[name] for name in wanted if name in names)),
        tuple(dict.fromkeys(name for name in wanted if name not in names)),
    )


def _check(entry: _Written, text: Text) -> None:
    """Refuse what the command line would refuse, with its place in the file."""
    try:
        spec(entry.request)
    except InvalidArgumentError as problem:
        flags = [(*entry.place, name.removeprefix("--")) for name in problem.details]
        place = next((flag for flag in flags if flag in text.lines), entry.place)
        raise InvalidArgumentError(
            problem.message,
            next_step=problem.next_step,
            **{**problem.details, "file": text.source, "line": text.lines.get(place, 1)},
        ) from problem


def _wrong(message: str, next_step: str, text: Text, place: Key) -> InvalidArgumentError:
    while place and place not in text.lines:
        place = place[:-1]
    return InvalidArgumentError(message, next_step=next_step, file=text.source, line=text.lines.get(place, 1))
