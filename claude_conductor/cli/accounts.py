"""What did tasks use and come to, all together or by what they have in common? Pure sums over what the control plane tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from claude_conductor.cli import output, task_view
from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.units import format_duration, format_size
from claude_conductor.v1 import task_pb2

_LABEL: Final = "label:"
_BY: Final = {
    "tenant": lambda task: task.tenant_id,
    "type": lambda task: task.spec.type,
    "agent": lambda task: task.agent_id,
    "driver": lambda task: task.spec.driver,
    "model": lambda task: task.spec.model,
    "submitter": lambda task: task.submitter,
}


@dataclass(slots=True)
class Account:
    """Sums over tasks, all of their attempts counted. Times in seconds, sizes in bytes."""

    key: str = ""
    tasks: int = 0
    states: dict[str, int] = field(default_factory=dict)
    """State in a word -> tasks."""
    patches: int = 0
    files: int = 0
    added_lines: int = 0
    removed_lines: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    """The largest."""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd: float = 0.0
    """Without the tokens of `unpriced_tokens`."""
    unpriced_tokens: int = 0
    """Tokens of all sorts whose cost is not known."""

    def add(self, task: task_pb2.Task) -> None:
        """Count a task."""
        use, patch = task_view.used(task), task.result.patch
        word = task_view.state(task)
        self.tasks += 1
        self.states[word] = self.states.get(word, 0) + 1
        if task.result.patch_artefact_id:
            self.patches += 1
            self.files += patch.files
            self.added_lines += patch.added_lines
            self.removed_lines += patch.removed_lines
        self.wall_seconds += use.wall_time.ToNanoseconds() / 1e9
        self.cpu_seconds += use.cpu_seconds
        self.memory_peak_bytes = max(self.memory_peak_bytes, use.memory_peak_bytes)
        self.input_tokens += use.input_tokens
        self.output_tokens += use.output_tokens
        self.cache_read_tokens += use.cache_read_tokens
        self.cost_usd += use.cost_usd
        self.unpriced_tokens += use.unpriced_tokens

    def add_model(self, task: task_pb2.Task, model: task_pb2.ModelUsage) -> None:
        """Count what a task used one model for; time, memory and patches are nobody's part."""
        word = task_view.state(task)
        self.tasks += 1
        self.states[word] = self.states.get(word, 0) + 1
        self.input_tokens += model.input_tokens
        self.output_tokens += model.output_tokens
        self.cache_read_tokens += model.cache_read_tokens
        self.cost_usd += model.cost_usd
        self.unpriced_tokens += model.unpriced_tokens

    def plain(self) -> dict[str, Any]:
        """Return what programs are told."""
        return {
            "tasks": self.tasks,
            "states": dict(sorted(self.states.items())),
            "patches": self.patches,
            "files": self.files,
            "added_lines": self.added_lines,
            "removed_lines": self.removed_lines,
            "wall_seconds": round(self.wall_seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "memory_peak_bytes": self.memory_peak_bytes,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cost_usd": round(self.cost_usd, 6),
            "unpriced_tokens": self.unpriced_tokens,
        }

    def used(self) -> str:
        """Return what was used, in words."""
        parts = [
            f"{format_duration(self.wall_seconds)} of agents' time" if self.wall_seconds else "",
            f"{self.cpu_seconds:.1f} s of cpu time" if self.cpu_seconds else "",
            f"{format_size(self.memory_peak_bytes)} of memory at most" if self.memory_peak_bytes else "",
            f"{self.input_tokens} tokens in, {self.output_tokens} out" if self.input_tokens or self.output_tokens else "",
            task_view.cost(self.cost_usd, self.unpriced_tokens),
        ]
        return ", ".join(part for part in parts if part)


def total(tasks: Iterable[task_pb2.Task]) -> Account:
    """Return the sums over all."""
    account = Account("all")
    for task in tasks:
        account.add(task)
    return account


def by(tasks: Iterable[task_pb2.Task], what: str) -> list[Account]:
    """Return the sums by what tasks have in common: the most expensive first, then the longest.

    By model, a task is counted with every model that the gateway saw it use, each with its own part of tokens and cost.

    Args:
        tasks: Which.
        what: `tenant`, `type`, `agent`, `driver`, `model`, `submitter`, or `label:NAME`.

    Raises:
        InvalidArgumentError: It is none of these.
    """
    key = what.strip()
    if key not in _BY and (not key.startswith(_LABEL) or key == _LABEL):
        raise InvalidArgumentError("Usage is not kept by that.", next_step=f"there are: {', '.join(_BY)}, {_LABEL}NAME", by=what)
    accounts: dict[str, Account] = {}
    for task in tasks:
        if key == "model" and (models := task_view.used(task).models):
            for model in models:
                accounts.setdefault(model.model, Account(model.model)).add_model(task, model)
            continue
        name = task.spec.labels.get(key.removeprefix(_LABEL), "") if key.startswith(_LABEL) else str(_BY[key](task))
        accounts.setdefault(name, Account(name)).add(task)
    return sorted(accounts.values(), key=lambda each: (-each.cost_usd, -each.wall_seconds, each.key))


def states(account: Account) -> str:
    """Return how many tasks are in which state, in words."""
    return ", ".join(f"{number} {word}" for word, number in sorted(account.states.items(), key=lambda each: (-each[1], each[0])))


def ended(tasks: Iterable[task_pb2.Task]) -> list[task_pb2.Task]:
    """Return the tasks that have ended."""
    return [task for task in tasks if task.state in FINAL]


def reasons(tasks: Iterable[task_pb2.Task]) -> list[tuple[str, int]]:
    """Return why tasks did not succeed, the most frequent first: the kind of failure, or the state where there is none."""
    counts: dict[str, int] = {}
    for task in tasks:
        if task.state in FINAL and task.state != task_pb2.TASK_STATE_SUCCEEDED:
            kind = task.result.failure.kind
            word = output.word(task_pb2.FailureKind, kind, "FAILURE_KIND_").replace("_", " ") if kind else task_view.state(task)
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def shared(files: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the files that more than one task changed.

    Args:
        files: Task id -> paths its patch changes.
    """
    tasks: dict[str, list[str]] = {}
    for task_id, paths in files.items():
        for path in dict.fromkeys(paths):
            tasks.setdefault(path, []).append(task_id)
    return {path: sorted(ids) for path, ids in sorted(tasks.items()) if len(ids) > 1}
