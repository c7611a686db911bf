"""Does what the processes of tasks wrote down, together with what the control plane says, keep the promises about tasks?

A run is one process; it writes a file of its own, so a kill loses no line. Which attempt it was, says the output
stored of that attempt: its first line is the run's nonce. The rules follow from what each source can know:

- `ended` is written before the process ends: the result may have been counted or not, and never more than once.
- An attempt that ended by its own report must have exactly one run, and end as that run did.
- An attempt that was lost may have had a run, even one that came to its end; it counts for nothing, and is to be seen.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "DEAD"})
MOST_LOSSES = 5
LOST = "AGENT_LOST"
SILENT = "gave no sign of life"
REFUSED, REVOKED = "task.result_refused", "task.lease_revoked"
NO_RUN = frozenset({"STARTUP_TIMEOUT", "CANCELLED", "TIMEOUT", "SIGNAL"})
"""Failures that may come before a process wrote anything, or after it wrote how it was about to end."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one process wrote. Times in monotonic seconds, the same for all processes."""

    nonce: str
    task_id: str
    agent_id: str
    began: float
    ended: float | None = None
    code: int | None = None
    children: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One hand-out, as the control plane tells it. Times in seconds since the epoch."""

    number: int
    agent_id: str
    leased: float
    started: float | None
    ended: float | None
    failure: str = ""
    message: str = ""
    output: str = ""
    """What was stored of its output."""

    @property
    def nonces(self) -> list[str]:
        return [line.removeprefix("run ") for line in self.output.splitlines() if line.startswith("run ")]


@dataclass(frozen=True, slots=True)
class Row:
    """A task at the end, as the control plane tells it."""

    task_id: str
    kind: str
    state: str
    attempts: tuple[Attempt, ...] = ()
    after: tuple[str, ...] = ()
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """A task as it was seen once."""

    version: int
    state: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Told:
    """An event about a task."""

    type: str
    task_id: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that happened. Times in seconds since the epoch."""

    program: str
    action: str
    agent: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """A promise that was not kept."""

    kind: str
    task_id: str
    detail: str


@dataclass(slots=True)
class Story:
    """Everything that is known of a run of the suite."""

    submitted: Mapping[str, str]
    """By task, what the submitter was told: its request."""
    ends: Mapping[str, str]
    """In which state a task of each kind ends."""
    runs: Sequence[Run]
    rows: Sequence[Row]
    sights: Mapping[str, Sequence[Sight]]
    """In the order in which they were seen."""
    events: Sequence[Told] = ()
    strikes: Sequence[Struck] = ()
    children: int = 0
    """How many subtasks each parent has."""
    by_id: dict[str, Row] = field(init=False)
    by_nonce: dict[str, Run] = field(init=False)
    runs_of: dict[str, list[Run]] = field(init=False)

    def __post_init__(self) -> None:
        """Index what is asked for often."""
        self.by_id = {row.task_id: row for row in self.rows}
        self.by_nonce = {run.nonce: run for run in self.runs}
        self.runs_of = defaultdict(list)
        for run in self.runs:
            self.runs_of[run.task_id].append(run)

    def counted(self) -> Iterator[tuple[Row, Attempt]]:
        """Yield the attempts whose own report ended them."""
        for row in self.rows:
            for attempt in row.attempts:
                if attempt.ended is not None and attempt.failure != LOST:
                    yield row, attempt

    def wasted(self) -> list[Run]:
        """Return the runs that came to their end and count for nothing."""
        counted = {nonce for _, attempt in self.counted() for nonce in attempt.nonces}
        return [run for run in self.runs if run.ended is not None and run.nonce not in counted]


def parse(text: str) -> Run | None:
    """Return what a file tells; a line that was torn by a kill counts as not written."""
    run: Run | None = None
    for line in text.split("\n")[:-1]:
        time, kind, nonce, task_id, agent_id, value = json.loads(line)
        if run is None:
            run = Run(nonce, task_id, agent_id, time)
        elif kind == "ended":
            run = Run(nonce, task_id, agent_id, run.began, time, int(value), run.children)
        elif kind == "child":
            run = Run(nonce, task_id, agent_id, run.began, children=(*run.children, value))
    return run


def check(story: Story) -> list[Violation]:
    """Return every violation."""
    rules = (_lost, _wrong_end, _went_on, _two_ends, _miscounted, _twice, _overlap, _order, _needless_loss, _families, _hidden)
    return sorted(violation for rule in rules for violation in rule(story))


def _lost(story: Story) -> Iterator[Violation]:
    for task_id, request in story.submitted.items():
        if task_id not in story.by_id:
            yield Violation("lost", task_id, f"was stored for {request}, and nobody knows it")
    for run in story.runs:
        if run.task_id not in story.by_id:
            yield Violation("lost", run.task_id, f"{run.agent_id} worked on it, and nobody knows it")


def _wrong_end(story: Story) -> Iterator[Violation]:
    for row in story.rows:
        losses = sum(attempt.failure == LOST for attempt in row.attempts)
        if row.state not in FINAL:
            yield Violation("no end", row.task_id, f"{row.kind} is {row.state}")
        elif row.state != story.ends[row.kind] and not (row.state == "DEAD" and losses >= MOST_LOSSES):
            last = row.attempts[-1].message if row.attempts else ""
            yield Violation("wrong end", row.task_id, f"{row.kind} is {row.state} after {len(row.attempts)} attempts: {last}")
        if row.state in FINAL and any(attempt.ended is None for attempt in row.attempts):
            yield Violation("wrong end", row.task_id, "it ended, and one of its attempts goes on")


def _went_on(story: Story) -> Iterator[Violation]:
    """What was seen once was stored: nothing goes back, and what is final stays as it is."""
    for task_id, sights in story.sights.items():
        for before, after in pairwise(sights):
            if before.state in FINAL and after != before:
                yield Violation("went on", task_id, f"was {before}, then {after}")
            if after.version < before.version or after.attempts < before.attempts:
                yield Violation("went back", task_id, f"was {before}, then {after}")


def _two_ends(story: Story) -> Iterator[Violation]:
    final = {f"task.{state.lower()}" for state in FINAL}
    for task_id, count in Counter(told.task_id for told in story.events if told.type in final).items():
        if count > 1:
            yield Violation("two ends", task_id, f"{count} events tell of its end")


def _miscounted(story: Story) -> Iterator[Violation]:
    """A result is the result of the run of that very attempt."""
    for row, attempt in story.counted():
        runs = [story.by_nonce.get(nonce) for nonce in attempt.nonces]
        what = f"attempt {attempt.number} ended as {attempt.failure or 'done'}"
        if len(runs) != 1 or runs[0] is None:
            if runs or attempt.failure not in NO_RUN:
                yield Violation("a result without its run", row.task_id, f"{what}, and its output names {attempt.nonces}")
            continue
        run = runs[0]
        if (run.task_id, run.agent_id) != (row.task_id, attempt.agent_id):
            yield Violation("somebody else's result", row.task_id, f"{what} by {attempt.agent_id}; it was {run}")
        if (run.code == 0) != (attempt.failure == "") and attempt.failure not in NO_RUN:
            yield Violation("another result", row.task_id, f"{what}; the run wrote {run.code}")


def _twice(story: Story) -> Iterator[Violation]:
    counts: Counter[str] = Counter()
    for row in story.rows:
        for attempt in row.attempts:
            counts.update(set(attempt.nonces))
        done = [attempt for attempt in row.attempts if attempt.ended is not None and not attempt.failure]
        if len(done) > 1 or (done and done[0] is not row.attempts[-1]):
            yield Violation("counted twice", row.task_id, f"attempts {[attempt.number for attempt in done]} succeeded")
    for nonce, count in counts.items():
        if count > 1:
            yield Violation("counted twice", story.by_nonce[nonce].task_id, f"run {nonce} is in the output of {count} attempts")


def _overlap(story: Story) -> Iterator[Violation]:
    """One valid lease at a time: of a task, and at an agent."""
    at: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for row in story.rows:
        if [attempt.number for attempt in row.attempts] != list(range(1, len(row.attempts) + 1)):
            yield Violation("two leases", row.task_id, f"its attempts are {[attempt.number for attempt in row.attempts]}")
        for before, after in pairwise(row.attempts):
            if before.ended is None or after.leased < before.ended:
                yield Violation("two leases", row.task_id, f"attempt {after.number} began before {before.number} ended")
        for attempt in row.attempts:
            at[attempt.agent_id].append((attempt.leased, attempt.ended or float("inf"), row.task_id))
    for agent_id, times in at.items():
        for before, after in pairwise(sorted(times)):
            if after[0] < before[1]:
                yield Violation("two tasks at once", after[2], f"{agent_id} got it while it had {before[2]}")


def _order(story: Story) -> Iterator[Violation]:
    """What depends on a task begins after it has come to its end, or never."""
    for row in story.rows:
        for other_id in row.after:
            ends = [
                story.by_nonce[nonce].ended or float("inf")
                for other, attempt in story.counted()
                if other.task_id == other_id and not attempt.failure
                for nonce in attempt.nonces
            ]
            for run in story.runs_of[row.task_id]:
                if run.began < min(ends, default=float("inf")):
                    yield Violation("out of order", row.task_id, f"it ran before {other_id}, which it depends on, succeeded")


def _needless_loss(story: Story) -> Iterator[Violation]:
    """An attempt is lost only by what happened to its own sidecar; no fault of the control plane or of an agent loses one."""
    for row in story.rows:
        for attempt in row.attempts:
            if attempt.failure != LOST or attempt.ended is None:
                continue
            if not any(
                struck.program == "sidecar" and struck.agent == attempt.agent_id and struck.began <= attempt.ended
                for struck in story.strikes
            ):
                yield Violation(
                    "needless loss", row.task_id, f"attempt {attempt.number} at {attempt.agent_id}: {attempt.message}"
                )


def _families(story: Story) -> Iterator[Violation]:
    """Whoever tried a parent, and however often: it has its children once, and every run of it was told the same ones."""
    born: dict[str, set[str]] = defaultdict(set)
    for row in story.rows:
        if row.parent:
            born[row.parent].add(row.task_id)
    for row in story.rows:
        if row.kind == "parent" and len(born[row.task_id]) != story.children:
            yield Violation("wrong children", row.task_id, f"it has {len(born[row.task_id])}")
        for run in story.runs_of[row.task_id]:
            if not set(run.children) <= born[row.task_id]:
                yield Violation("wrong children", row.task_id, f"a run was told {run.children}, it has {born[row.task_id]}")


def _hidden(story: Story) -> Iterator[Violation]:
    """Who comes back with an attempt that was taken from it is refused, and that is to be seen."""
    seen = {(told.task_id, told.attempt) for told in story.events if told.type in {REFUSED, REVOKED}}
    for row in story.rows:
        for attempt in row.attempts:
            silent = attempt.failure == LOST and SILENT in attempt.message and attempt.started is not None
            if silent and (row.task_id, attempt.number) not in seen and not _excused(attempt, story.strikes):
                yield Violation("hidden", row.task_id, f"nobody was told what became of attempt {attempt.number}")
    lost = {(row.task_id, attempt.number) for row in story.rows for attempt in row.attempts if attempt.failure}
    for task_id, number in seen - lost:
        yield Violation("refused and counted", task_id, f"attempt {number} was refused, and it is the one that succeeded")


def _excused(attempt: Attempt, strikes: Iterable[Struck]) -> bool:
    """Whether the sidecar never came back with it, or the control plane died and lost what it had to tell."""
    ended = attempt.ended or 0.0
    return any(
        struck.action == "kill"
        and (
            (struck.program == "sidecar" and struck.agent == attempt.agent_id and struck.ended >= attempt.leased)
            or (struck.program == "control plane" and struck.ended >= ended)
        )
        for struck in strikes
    )
