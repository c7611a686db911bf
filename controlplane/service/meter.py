"""What is counted of tasks, agents and messages? Told of each change, it does nothing but add up."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from claude_conductor.ids import DEFAULT_TENANT
from claude_conductor.telemetry import metrics
from claude_conductor.telemetry.instruments import Counter, Histogram, Labels
from controlplane.domain.events import Event
from controlplane.domain.message import Quality
from controlplane.domain.task import FailureKind, State, Task, Usage

UNKNOWN_MODEL = "unknown"
_UNDELIVERED = {f"message.{state}": state for state in ("dead", "bounced", "expired")}


class Meter:
    """The counts of one life of the control plane. Nothing is stored; what is open is counted anew after a restart."""

    def __init__(self) -> None:
        self.queued = Histogram(metrics.QUEUED)
        self.started = Histogram(metrics.STARTED)
        self.task_time = Histogram(metrics.TASK_TIME)
        self.ended = Counter(metrics.ENDED)
        self.attempts = Counter(metrics.ATTEMPTS)
        self.limits = Counter(metrics.LIMITS)
        self.tokens = Counter(metrics.TOKENS)
        self.cost = Counter(metrics.COST)
        self.lost = Counter(metrics.LOST)
        self.messages = Counter(metrics.MESSAGES)
        self.refused = Counter(metrics.REFUSED)
        self.undelivered = Counter(metrics.UNDELIVERED)
        self.relay = Histogram(metrics.RELAY)
        self.rpc = Histogram(metrics.RPC)
        self.store = Histogram(metrics.STORE)
        self.store_failed = Counter(metrics.STORE_FAILED)
        # A series that begins at 1 has not increased, for Prometheus: what alerts look at begins at 0.
        for outcome in ("succeeded", *(kind.value for kind in FailureKind)):
            self.attempts.add(0, outcome)
        for state in _UNDELIVERED.values():
            self.undelivered.add(0, state)
        for end in State:
            if end.final:
                self.ended.add(0, DEFAULT_TENANT, end.value)
        self._open: Tally[Labels] = Tally()
        self._ready: dict[Labels, dict[str, float]] = {}

    def instruments(self) -> Iterator[Counter | Histogram]:
        """Return everything that is counted all the time."""
        return (value for value in vars(self).values() if isinstance(value, Counter | Histogram))

    def task(self, before: Task | None, after: Task) -> None:
        """Note that a task was stored, or became another; `before` None also for one that an earlier life stored."""
        for task, step in ((before, -1), (after, 1)):
            if task is not None and not task.state.final:
                self._count(task, step)
        if before is None or before.state is after.state:
            return
        self._moved(before, after)

    def _count(self, task: Task, step: int) -> None:
        priority = str(task.spec.priority)
        labels = (task.tenant_id, task.state.value, priority)
        self._open[labels] += step
        if not self._open[labels]:
            del self._open[labels]
        if task.state is State.QUEUED:
            ready = self._ready.setdefault((task.tenant_id, priority), {})
            if step > 0:
                ready[task.id] = task.queue_time
            else:
                ready.pop(task.id, None)
            if not ready:
                del self._ready[task.tenant_id, priority]

    def _moved(self, before: Task, after: Task) -> None:
        now = after.state_time
        if after.state is State.LEASED:
            self.queued.observe(now - before.queue_time, str(after.spec.priority))
        elif before.state is State.LEASED and after.state is State.RUNNING:
            self.started.observe(now - after.attempts[-1].lease_time)
        elif after.state is State.RATE_LIMITED:
            self.limits.add(1)
        if before.state.held and not after.state.held and after.attempts:
            last = after.attempts[-1]
            self.attempts.add(1, last.failure.kind.value if last.failure is not None else "succeeded")
            self._spent(last.usage)
        if after.state.final:
            self.ended.add(1, after.tenant_id, after.state.value)
            self.task_time.observe(now - after.create_time, after.state.value)

    def _spent(self, usage: Usage) -> None:
        """Count what an attempt used: by model what the gateway saw, the rest as of a model nobody named."""
        kinds = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        for kind in kinds:
            seen = 0
            for model in usage.models:
                seen += getattr(model, kind)
                self._add_tokens(getattr(model, kind), model.model or UNKNOWN_MODEL, kind)
            self._add_tokens(getattr(usage, kind) - seen, UNKNOWN_MODEL, kind)
        priced = sum(model.cost_usd for model in usage.models)
        for name, cost in (*((model.model, model.cost_usd) for model in usage.models), ("", usage.cost_usd - priced)):
            if cost > 0:
                self.cost.add(cost, name or UNKNOWN_MODEL)

    def _add_tokens(self, amount: int, model: str, kind: str) -> None:
        if amount > 0:
            self.tokens.add(amount, model, kind.removesuffix("_tokens"))

    def event(self, event: Event) -> None:
        """Note what watchers are told."""
        if event.type == "agent.lost":
            self.lost.add(1)
        elif event.type in _UNDELIVERED:
            self.undelivered.add(1, _UNDELIVERED[event.type])

    def accepted(self, quality: Quality, messages: int) -> None:
        """Note messages that were accepted."""
        self.messages.add(messages, quality.value)

    def open_tasks(self) -> Iterator[tuple[Labels, float]]:
        """Return how many tasks stand where, by tenant, state and priority."""
        return iter(tuple(self._open.items()))

    def oldest(self, now: float) -> Iterator[tuple[Labels, float]]:
        """Return for how many seconds the oldest queued task has been ready, by tenant and priority."""
        for labels, ready in tuple(self._ready.items()):
            yield labels, max(0.0, now - min(ready.values()))
