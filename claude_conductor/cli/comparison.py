"""How do several tasks look side by side: how they ended, what they used, and which files more than one changed?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from claude_conductor.cli import diff_view, output, task_view
from claude_conductor.cli.output import Column, Format
from claude_conductor.cli.patch_text import FileChange
from claude_conductor.units import format_duration, format_size
from claude_conductor.v1 import task_pb2

_NONE: Final = "-"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the tasks that are compared."""

    task: task_pb2.Task
    files: tuple[FileChange, ...]
    """What its patch changes."""


@dataclass(frozen=True, slots=True)
class _Row:
    title: str
    cells: tuple[str, ...]


def show(sides: Sequence[Side], form: Format) -> None:
    """Write the comparison: tables for people, a list with one entry per task for programs."""
    if form is Format.NAME:
        for side in sides:
            output.say(side.task.task_id)
    elif form in (Format.JSON, Format.YAML):
        output.show_rows(form, [plain(side, sides) for side in sides], (), str, "")
    else:
        names = [side.task.task_id for side in sides]
        output.table(facts(sides), _columns("", names))
        if rows := changed(sides):
            output.say("")
            output.table(rows, _columns("FILE", names))
            output.say("")
            output.say(_verdict(sides))


def facts(sides: Sequence[Side]) -> list[_Row]:
    """Return what can be said of each, a row per fact; facts that none has are left out."""
    told: list[tuple[str, Callable[[Side], str]]] = [
        ("state", lambda side: task_view.state(side.task)),
        ("agent", lambda side: side.task.agent_id),
        ("kind", lambda side: " ".join(filter(None, (side.task.spec.driver, side.task.spec.model)))),
        ("patch", lambda side: _patch(side, sides)),
        ("exit code", lambda side: str(side.task.result.exit_code) if side.task.result.HasField("exit_code") else ""),
        ("failed", lambda side: task_view.failure(side.task)),
        ("attempts", lambda side: str(len(side.task.attempts) or "")),
        ("time", lambda side: _span(side.task)),
        (
            "cpu time",
            lambda side: f"{task_view.used(side.task).cpu_seconds:.1f} s" if task_view.used(side.task).cpu_seconds else "",
        ),
        ("memory", lambda side: _size(task_view.used(side.task).memory_peak_bytes)),
        ("tokens in", lambda side: str(task_view.used(side.task).input_tokens or "")),
        ("tokens out", lambda side: str(task_view.used(side.task).output_tokens or "")),
        ("turns", lambda side: str(task_view.used(side.task).turns or "")),
        ("cost", lambda side: task_view.cost(task_view.used(side.task).cost_usd, task_view.used(side.task).unpriced_tokens)),
        ("warnings", lambda side: str(len(side.task.result.warnings) or "")),
    ]
    rows = [_Row(title, tuple(value(side) for side in sides)) for title, value in told]
    return [row for row in rows if any(row.cells)]


def changed(sides: Sequence[Side]) -> list[_Row]:
    """Return a row per file with what each did to it: those that most changed first, then by name."""
    by_path: dict[str, dict[int, FileChange]] = {}
    for index, side in enumerate(sides):
        for change in side.files:
            by_path.setdefault(change.path, {})[index] = change
    order = sorted(by_path, key=lambda path: (-len(by_path[path]), path))
    return [
        _Row(diff_view.visible(path), tuple(_cell(by_path[path].get(index)) for index in range(len(sides)))) for path in order
    ]


def overlap(sides: Sequence[Side]) -> list[str]:
    """Return the files that more than one changed, by name."""
    seen: dict[str, int] = {}
    for side in sides:
        for path in {change.path for change in side.files}:
            seen[path] = seen.get(path, 0) + 1
    return sorted(path for path, times in seen.items() if times > 1)


def plain(side: Side, sides: Sequence[Side]) -> dict[str, Any]:
    """Return what programs are told of one of them."""
    shared = set(overlap(sides))
    task, use = side.task, task_view.used(side.task)
    return {
        "task_id": task.task_id,
        "state": output.word(task_pb2.TaskState, task.state, "TASK_STATE_"),
        "agent_id": task.agent_id,
        "same_patch_as": _twin(side, sides),
        "exit_code": task.result.exit_code if task.result.HasField("exit_code") else None,
        "failure": task_view.failure(task),
        "attempts": len(task.attempts),
        "wall_seconds": use.wall_time.ToNanoseconds() / 1e9,
        "cpu_seconds": use.cpu_seconds,
        "memory_peak_bytes": use.memory_peak_bytes,
        "input_tokens": use.input_tokens,
        "output_tokens": use.output_tokens,
        "cost_usd": use.cost_usd,
        "unpriced_tokens": use.unpriced_tokens,
        "files": [
            {
                "path": change.path,
                "kind": change.kind,
                "added": change.added,
                "removed": change.removed,
                "binary": change.binary,
                "shared": change.path in shared,
            }
            for change in side.files
        ],
    }


def _twin(side: Side, sides: Sequence[Side]) -> str:
    """Return the first other task with the very same patch; a patch's id is the hash of its content."""
    patch = side.task.result.patch_artefact_id
    same = [other.task for other in sides if patch and other.task.result.patch_artefact_id == patch]
    return next((task.task_id for task in same if task.task_id != side.task.task_id), "")


def _patch(side: Side, sides: Sequence[Side]) -> str:
    patch = task_view.patch(side.task)
    return f"{patch} (identical)" if _twin(side, sides) else patch or "none"


def _cell(change: FileChange | None) -> str:
    if change is None:
        return ""
    return change.size if change.kind == "changed" else f"{change.size} {change.kind}"


def _verdict(sides: Sequence[Side]) -> str:
    shared = overlap(sides)
    if not shared:
        return "No file was changed by more than one of them."
    return f"{len(shared)} file{'s were' if len(shared) > 1 else ' was'} changed by more than one of them."


def _columns(first: str, names: Sequence[str]) -> list[Column]:
    def cell(index: int) -> Callable[[_Row], str]:
        return lambda row: row.cells[index] or _NONE

    return [
        Column(first, lambda row: str(row.title), least=10),
        *(Column(name, cell(index), least=12) for index, name in enumerate(names)),
    ]


def _span(task: task_pb2.Task) -> str:
    seconds = task_view.seconds(task, task.end_time.ToNanoseconds() / 1e9)
    return "" if seconds is None or not task.end_time.seconds else format_duration(seconds)


def _size(number: int) -> str:
    return format_size(number) if number else ""
