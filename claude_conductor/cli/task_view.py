"""How is a task told: in a word, a line, a row of a table, or whole?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from claude_conductor.cli import budgets, output, question_view
from claude_conductor.cli.agents import isolation_lines
from claude_conductor.cli.output import Column
from claude_conductor.client.tasks import FINAL
from claude_conductor.units import format_duration, format_size
from claude_conductor.v1 import task_pb2

_SHORT: Final = 60
_EMPTY: Final = "-"
_SHOWN: Final = 30
"""Lines of a conflict, or of a check's output (the last), and of subtasks (the first)."""
_WAITING: Final = frozenset((task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_BLOCKED))


def state(task: task_pb2.Task) -> str:
    """Return its state in a word."""
    return output.word(task_pb2.TaskState, task.state, "TASK_STATE_").replace("_", " ")


def name(task: task_pb2.Task) -> str:
    """Return what `-o name` prints."""
    return task.task_id


def about(task: task_pb2.Task) -> str:
    """Return the beginning of what it is about."""
    text = " ".join((task.spec.prompt or " ".join(task.spec.command)).split())
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def seconds(task: task_pb2.Task, now: float) -> float | None:
    """Return how long it has been running or ran, in seconds; None before its start."""
    if not task.start_time.seconds:
        return None
    end = task.end_time.ToNanoseconds() / 1e9 if task.end_time.seconds else now
    return max(0.0, end - task.start_time.ToNanoseconds() / 1e9)


def patch(task: task_pb2.Task) -> str:
    """Return the size of its patch, such as `2 files, +10 -3`; empty where there is none."""
    if not task.result.patch_artefact_id:
        return ""
    size = task.result.patch
    return f"{size.files} file{'s' if size.files != 1 else ''}, +{size.added_lines} -{size.removed_lines}"


def used(task: task_pb2.Task) -> task_pb2.TaskUsage:
    """Return what all of its attempts used; a control plane that does not tell knows that of the last one."""
    return task.usage if task.HasField("usage") else task.result.usage


def cost(usd: float, unpriced_tokens: int) -> str:
    """Return a cost in words; empty where there is none, and never 0 where it is not known."""
    if not unpriced_tokens:
        return f"${usd:.4f}" if usd else ""
    unknown = f"cost of {unpriced_tokens} tokens unknown"
    return f"over ${usd:.4f} ({unknown})" if usd else unknown


def usage(task: task_pb2.Task) -> str:
    """Return what it used over all attempts, in words."""
    use = used(task)
    parts = []
    if use.wall_time.ToNanoseconds():
        parts.append(f"{format_duration(use.wall_time.ToNanoseconds() / 1e9)}")
    if use.cpu_seconds:
        parts.append(f"{use.cpu_seconds:.1f} s of cpu time")
    if use.memory_peak_bytes:
        parts.append(f"{format_size(use.memory_peak_bytes)} of memory at most")
    if use.throttled_seconds >= 0.05:
        parts.append(f"held back {use.throttled_seconds:.1f} s by its processor limit (--cpus)")
    if use.input_tokens or use.output_tokens:
        cached = f", {use.cache_read_tokens} from the cache" if use.cache_read_tokens else ""
        parts.append(f"{use.input_tokens} tokens in{cached}, {use.output_tokens} out")
    parts.append(cost(use.cost_usd, use.unpriced_tokens))
    return ", ".join(part for part in parts if part)


def models(task: task_pb2.Task) -> str:
    """Return what it used each model for, a line each."""
    return "\n".join(
        f"{output.printable(model.model) or 'a model without a name'}: {model.turns} answer{'s' if model.turns != 1 else ''}, "
        f"{model.input_tokens} tokens in, {model.output_tokens} out, "
        + (f"${model.cost_usd:.4f}" if not model.unpriced_tokens else "cost unknown: it is in no price table (`config prices`)")
        for model in used(task).models
    )


def landing_word(landing: task_pb2.Landing) -> str:
    """Return what became of a patch in a word or two."""
    words = {task_pb2.LANDING_STATE_LANDED: "landed", task_pb2.LANDING_STATE_EVICTED: "evicted"}
    return words.get(landing.state, "nothing to land")


def landing(task: task_pb2.Task) -> str:
    """Return what became of its patch on its way to a branch; empty if nobody tried."""
    if not task.HasField("landing"):
        return ""
    told = task.landing
    words = f"{landing_word(told)}: {told.reason}"
    if told.state == task_pb2.LANDING_STATE_LANDED:
        return output.printable(f"{words}, as {told.commit[:12]}")
    return output.printable(words)


def _landing_lines(task: task_pb2.Task) -> str:
    told = task.landing
    lines = [landing(task)]
    if told.check_task_id:
        lines.append(f"check: conductor tasks output {told.check_task_id}")
    if told.state == task_pb2.LANDING_STATE_EVICTED:
        lines += [f"| {line}" for line in output.printable_lines(told.output).splitlines()[-_SHOWN:]]
        lines.append(f"`conductor merge retry {task.task_id}` has it done again on what has landed")
    return "\n".join(line for line in lines if line)


def failure(task: task_pb2.Task) -> str:
    """Return why it failed; empty if it did not."""
    result = task.result
    if not result.HasField("failure"):
        return "" if task.state == task_pb2.TASK_STATE_SUCCEEDED else task.reason if task.state in FINAL else ""
    kind = output.word(task_pb2.FailureKind, result.failure.kind, "FAILURE_KIND_").replace("_", " ")
    return f"{kind}: {result.failure.message}" if result.failure.message else kind


def holder(task: task_pb2.Task) -> str:
    """Return the agent that has it or ended it; empty while it waits, also for another attempt."""
    return "" if task.state in _WAITING else task.agent_id


def saying(task: task_pb2.Task) -> str:
    """Return what there is to say beyond state and agent: its failure, what it waits for, or how far it is."""
    if task.state in FINAL:
        return failure(task)
    if question_view.is_open(task):
        return question_view.hint(task)
    if task.state == task_pb2.TASK_STATE_RATE_LIMITED:
        return task.reason
    return task.progress or ("" if holder(task) else task.reason)


def line(task: task_pb2.Task, now: float) -> str:
    """Return one line about where it stands."""
    parts = [task.task_id, state(task)]
    if agent := holder(task):
        parts.append(f"on {agent}")
        if (ran := seconds(task, now)) is not None:
            parts.append(f"{'after' if task.state in FINAL else 'for'} {format_duration(ran)}")
    words = saying(task)
    return " ".join(parts) + (f" - {output.printable(words)}" if words else "")


COLUMNS: Final = (
    Column("TASK", name, least=output.ID_WIDTH),
    Column("STATE", state, least=9),
    Column("AGENT", lambda task: task.agent_id or _EMPTY),
    Column("AGE", lambda task: output.age(task.create_time) or _EMPTY),
    Column("PATCH", lambda task: patch(task) or _EMPTY, least=14),
    Column("ABOUT", about),
    Column("TYPE", lambda task: task.spec.type, wide=True),
    Column("DRIVER", lambda task: task.spec.driver, wide=True),
    Column("PRIORITY", lambda task: str(task.spec.priority), wide=True),
    Column("ATTEMPTS", lambda task: str(len(task.attempts)), wide=True),
    Column("BY", lambda task: task.submitter, wide=True),
    Column("REASON", lambda task: failure(task) or task.reason, wide=True),
)


def outcome(task: task_pb2.Task) -> list[tuple[str, str]]:
    """Return what came of a finished task, as lines."""
    result = task.result
    patched = patch(task)
    if patched and task.landing.state != task_pb2.LANDING_STATE_LANDED:
        patched += f"; `conductor tasks apply {task.task_id}` puts it on a branch"
    return [
        ("summary", output.printable_lines(result.summary.strip())),
        ("failed", output.printable_lines(failure(task))),
        ("patch", patched),
        ("merge", _landing_lines(task)),
        ("warnings", "\n".join(output.printable(warning) for warning in result.warnings)),
        ("kept", output.printable(result.workspace)),
        ("used", usage(task)),
        ("models", models(task)),
        ("output", f"conductor tasks output {task.task_id}" if not task.spec.HasField("fan_out") else ""),
    ]


def details(task: task_pb2.Task, now: float) -> list[tuple[str, str]]:
    """Return everything about a task, as lines."""
    spec = task.spec
    where = spec.workspace.git.repository or spec.workspace.folder.path
    ran = seconds(task, now)
    lines = [
        ("task", task.task_id),
        ("state", state(task)),
        ("since", f"{output.moment(task.state_time)}, {output.age(task.state_time)} ago" if task.state_time.seconds else ""),
        ("reason", output.printable(task.reason)),
        *question_view.lines(task),
        ("agent", task.agent_id),
        ("progress", output.printable(task.progress) if task.state not in FINAL else ""),
        ("type", spec.type),
        ("driver", spec.driver),
        ("prompt", output.printable_lines(spec.prompt)),
        ("told", output.printable_lines(spec.instructions.strip())),
        ("command", output.printable(" ".join(spec.command))),
        ("workspace", f"{where} {spec.workspace.git.ref}".strip()),
        ("writes", output.printable(", ".join(spec.writes))),
        ("set-up", output.printable(" ".join(spec.setup.command))),
        ("priority", str(spec.priority)),
        ("depends on", ", ".join(spec.depends_on)),
        ("group", _group(spec.fan_out) if spec.HasField("fan_out") else ""),
        ("parent", spec.parent_task_id),
        ("budget", budgets.told(task)),
        ("submitted", f"{output.moment(task.create_time)} by {task.submitter}"),
        ("ran", format_duration(ran) if ran is not None else ""),
        ("attempts", "\n".join(_attempt(attempt) for attempt in task.attempts)),
        ("trace", task.traceparent),
    ]
    if task.state in FINAL:
        code = f"exit code {task.result.exit_code}" if task.result.HasField("exit_code") else ""
        artefacts = [f"{a.name} ({format_size(a.size_bytes)}) {a.artefact_id}" for a in task.result.artefacts]
        lines += [("ended", code), *outcome(task), ("artefacts", "\n".join(artefacts)), *isolation_lines(task.result.isolation)]
    return lines


def subtasks(group: task_pb2.Task, tasks: Sequence[task_pb2.Task], now: float) -> str:
    """Return where the subtasks of a group stand, a line each."""
    lines = [line(task, now) for task in tasks[:_SHOWN]]
    more = [f"{len(tasks) - _SHOWN} more: conductor tasks list --parent {group.task_id}"] if len(tasks) > _SHOWN else []
    return "\n".join(lines + more)


def _group(group: task_pb2.FanOut) -> str:
    at_once = f"at most {group.parallel} at once" if group.parallel else "side by side"
    stops = group.on_failure == task_pb2.SUBTASK_FAILURE_STOP
    return f"its subtasks {at_once}; " + ("a failure stops the others" if stops else "after a failure the others finish")


def _attempt(attempt: task_pb2.TaskAttempt) -> str:
    end = f" to {output.moment(attempt.end_time)}" if attempt.end_time.seconds else ""
    why = f": {output.printable(attempt.failure.message)}" if attempt.HasField("failure") else ""
    spent = cost(attempt.usage.cost_usd, attempt.usage.unpriced_tokens)
    end += f", {spent}" if spent else ""
    return f"{attempt.attempt} on {attempt.agent_id}, {output.moment(attempt.lease_time)}{end}{why}"
