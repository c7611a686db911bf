"""How does a run with tasks go: they are submitted and worked on, faults happen, and once all have ended the story is checked?"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from claude_conductor.client.call import Caller
from claude_conductor.client.events import Events
from claude_conductor.client.tasks import FINAL, Tasks, duration
from claude_conductor.errors import ConductorError, IllegalTransitionError, Kind
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import task_pb2
from tests.fakes.sidecar_process import ROOT
from tests.faults.plan import Fault
from tests.faults.programs import WORKER, Programs, find, strike
from tests.faults.task_history import Attempt, Row, Sight, Story, Struck, Told, Violation, check, parse

_T = TypeVar("_T")
PASSING = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED})
AT_ONCE = 16
LOOK_SECONDS = 0.5
QUIET_SECONDS = 2.0
"""Without another event, the log is read."""
CHILDREN = 2
ENDS = {
    "work": "SUCCEEDED",
    "long": "SUCCEEDED",
    "flaky": "SUCCEEDED",
    "follower": "SUCCEEDED",
    "parent": "SUCCEEDED",
    "child": "SUCCEEDED",
    "hopeless": "DEAD",
    "broken": "FAILED",
    "doomed": "FAILED",
    "late": "TIMED_OUT",
    "unwanted": "CANCELLED",
}
"""In which state a task of each kind has to end."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A task to submit. `after` says which wishes go before it, by their place."""

    kind: str
    arguments: tuple[str, ...]
    after: tuple[int, ...] = ()
    attempts: int = 10
    timeout: float = 0.0


def wishes(lease: float) -> list[Wish]:
    """Return what is submitted, in order: 184 tasks, 8 of which submit 2 more each."""
    made: list[Wish] = []
    for number in range(8):
        made.append(Wish("parent", ("parent", "0.2", str(CHILDREN))))
        made += [Wish("work", ("work", f"{0.05 * (number % 8):.2f}"))] * 11
        made += [Wish("flaky", ("flaky", "0.1", "2"))] * 3
        made.append(Wish("long", ("work", str(2.2 * lease))))
        ready = [place for place, wish in enumerate(made) if wish.kind in {"work", "flaky", "long"}]
        made += [Wish("follower", ("work", "0.1"), after=(ready[-1], ready[-3 - step])) for step in range(3)]
        if number % 2:
            made += [Wish("hopeless", ("exit", "3"), attempts=2), Wish("broken", ("exit", "127"))]
            made.append(Wish("doomed", ("work", "0"), after=(len(made) - 2,)))
            made.append(Wish("unwanted", ("work", "600")))
            made += [Wish("late", ("work", "600"), timeout=1.5)] * (number == 1)
    made += [Wish("work", ("work", "0.1"))] * (184 - len(made))
    return made


@dataclass(slots=True)
class _Seen:
    """What was seen while it went on."""

    submitted: dict[int, str] = field(default_factory=dict)
    """By place of the wish, the id that the submitter was told."""
    sights: dict[str, list[Sight]] = field(default_factory=lambda: defaultdict(list))
    final: int = 0
    strikes: list[Struck] = field(default_factory=list)


class TaskFleet:
    """Slots that work on tasks.

    Args:
        programs: What runs.
        records: Folder for what runs write down.
        lease: Seconds a lease lasts.
        patience: Seconds without any progress after which a run is given up.
    """

    def __init__(self, programs: Programs, records: Path, lease: float, patience: float) -> None:
        self._programs = programs
        self._records = records
        self._wishes = wishes(lease)
        self._patience = patience
        self._seen = _Seen()
        self._locks = {target: asyncio.Lock() for target in ("", *programs.folders)}
        self.total = len(self._wishes) + CHILDREN * sum(wish.kind == "parent" for wish in self._wishes)
        self.story: Story | None = None
        self.seconds = 0.0

    async def run(self, faults: Sequence[Fault]) -> list[Violation]:
        """Have everything done while the faults happen; return what was violated.

        Args:
            faults: In the order they happen.
        """
        self._records.mkdir()
        await self._programs.start(dict.fromkeys(self._programs.folders, ""))
        caller = Caller(self._programs.address, Secret(self._programs.token))
        tasks, began = Tasks(caller), time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self._look_on(tasks), name="look on")
                group.create_task(self._submit_all(tasks), name="submit")
                struck = [group.create_task(self._strike(fault), name=str(fault)) for fault in faults]
                await asyncio.gather(*struck)
                await self._until(self.total, "not every task ended")
                looking.cancel()
            self.seconds = time.monotonic() - began
            self.story = await self._tell(tasks, Events(caller))
        finally:
            await caller.close()
        return check(self.story)

    # --- what people do

    async def _submit_all(self, tasks: Tasks) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        stored: list[asyncio.Future[str]] = [asyncio.get_running_loop().create_future() for _ in self._wishes]

        async def submit(place: int, wish: Wish) -> None:
            after = [await stored[other] for other in wish.after]
            spec = self._spec(wish, after)
            async with gate:
                task = await insist(lambda: tasks.submit(spec, request_id=f"wish-{place}"))
            self._seen.submitted[place] = task.task_id
            stored[place].set_result(task.task_id)

        async with asyncio.TaskGroup() as group:
            for place, wish in enumerate(self._wishes):
                group.create_task(submit(place, wish), name=f"submit {place}")

    def _spec(self, wish: Wish, after: Sequence[str]) -> task_pb2.TaskSpec:
        lean = () if wish.kind == "parent" else ("-S", "-E")
        return task_pb2.TaskSpec(
            driver="command",
            command=[sys.executable, *lean, str(WORKER), str(self._records), *wish.arguments],
            environment={"PYTHONPATH": str(ROOT)},
            labels={"kind": wish.kind},
            depends_on=after,
            retry=task_pb2.RetryPolicy(max_attempts=wish.attempts),
            timeout=duration(wish.timeout) if wish.timeout else None,
        )

    async def _look_on(self, tasks: Tasks) -> None:
        """Write down how every task stands, again and again, and cancel those that nobody wants once they run."""
        cancelled: set[str] = set()
        while True:
            found = await insist(lambda: tasks.list(limit=10_000))
            self._note(found)
            for task in found:
                unwanted = task.spec.labels["kind"] == "unwanted" and task.state == task_pb2.TASK_STATE_RUNNING
                if unwanted and task.task_id not in cancelled:
                    cancelled.add(task.task_id)
                    with suppress(IllegalTransitionError):
                        await insist(lambda task=task: tasks.cancel(task.task_id, grace=0.2))
            await asyncio.sleep(LOOK_SECONDS)

    def _note(self, found: Sequence[task_pb2.Task]) -> None:
        for task in found:
            sight = Sight(task.version, _state(task), len(task.attempts))
            sights = self._seen.sights[task.task_id]
            if not sights or sights[-1] != sight:
                sights.append(sight)
        self._seen.final = sum(task.state in FINAL for task in found)

    # --- what goes wrong

    async def _strike(self, fault: Fault) -> None:
        await self._until(int(fault.at * self.total), f"no progress for {fault}")
        async with self._locks[fault.agent]:
            process = await self._found(fault)
            if process is None:
                return
            to_epoch = time.time() - time.monotonic()
            began, gone_on = await strike(self._programs, fault, process)
            struck = Struck(fault.program, fault.action, fault.agent, began + to_epoch, gone_on + to_epoch)
            self._seen.strikes.append(struck)

    async def _found(self, fault: Fault) -> int | None:
        """Return the process to hit; None if everything ended while its slot had nothing to do."""
        finding = asyncio.create_task(find(self._programs, fault.program, fault.agent), name=f"find {fault}")
        while not finding.done() and self._seen.final < self.total:
            await asyncio.wait({finding}, timeout=LOOK_SECONDS)
        if not finding.done():
            finding.cancel()
            await asyncio.wait({finding})
        return None if finding.cancelled() else finding.result()

    async def _until(self, final: int, what: str) -> None:
        deadline, before = time.monotonic() + self._patience, -1
        while self._seen.final < final:
            if self._seen.final != before:
                deadline, before = time.monotonic() + self._patience, self._seen.final
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}; ended so far: {before} of {self.total}\n{self.open_tasks()}")
            await asyncio.sleep(LOOK_SECONDS / 5)

    def open_tasks(self) -> str:
        """Return how those stand that have not ended."""
        still = {task_id: sights[-1] for task_id, sights in self._seen.sights.items() if sights[-1].state not in ENDS.values()}
        return "\n".join(f"{task_id}: {sight}" for task_id, sight in still.items())

    # --- how it ended

    async def _tell(self, tasks: Tasks, events: Events) -> Story:
        found = await insist(lambda: tasks.list(limit=10_000))
        self._note(found)
        runs = [run for path in sorted(self._records.glob("*.log")) if (run := parse(path.read_text())) is not None]
        return Story(
            submitted={task_id: f"wish {place}" for place, task_id in self._seen.submitted.items()},
            ends=ENDS,
            runs=runs,
            rows=[await _row(task, tasks) for task in found],
            sights=self._seen.sights,
            events=[told async for told in _told(events)],
            strikes=self._seen.strikes,
            children=CHILDREN,
        )

    def observations(self) -> str:
        """Return what happened, in a few lines."""
        story = self.story
        assert story is not None
        ends = Counter(row.state for row in story.rows)
        lost = sum(attempt.failure == "AGENT_LOST" for row in story.rows for attempt in row.attempts)
        told = Counter(event.type for event in story.events)
        refused, revoked = told["task.result_refused"], told["task.lease_revoked"]
        return (
            f"{len(story.rows)} tasks in {self.seconds:.0f} s, {len(story.runs)} runs, {len(story.strikes)} faults\n"
            f"ended: {', '.join(f'{count} {state}' for state, count in sorted(ends.items()))}\n"
            f"{lost} attempts lost their agent; {len(story.wasted())} runs came to an end that did not count; "
            f"{refused} results refused, {revoked} leases revoked"
        )


async def insist(call: Callable[[], Awaitable[_T]]) -> _T:
    """Call until there is an answer, as a client that wants to be sure does."""
    while True:
        try:
            return await call()
        except ConductorError as error:
            if error.kind not in PASSING:
                raise
        await asyncio.sleep(0.1)


def _state(task: task_pb2.Task) -> str:
    return task_pb2.TaskState.Name(task.state).removeprefix("TASK_STATE_")


async def _row(task: task_pb2.Task, tasks: Tasks) -> Row:
    attempts = []
    for attempt in task.attempts:
        output = b""
        async with aclosing(tasks.output(task.task_id, attempt=attempt.attempt)) as pieces:
            async for piece in pieces:
                output += piece.data
        attempts.append(
            Attempt(
                attempt.attempt,
                attempt.agent_id,
                attempt.lease_time.ToNanoseconds() / 1e9,
                attempt.start_time.ToNanoseconds() / 1e9 if attempt.HasField("start_time") else None,
                attempt.end_time.ToNanoseconds() / 1e9 if attempt.HasField("end_time") else None,
                task_pb2.FailureKind.Name(attempt.failure.kind).removeprefix("FAILURE_KIND_")
                if attempt.HasField("failure")
                else "",
                attempt.failure.message,
                output.decode(),
            )
        )
    labels: Mapping[str, str] = task.spec.labels
    return Row(task.task_id, labels["kind"], _state(task), tuple(attempts), tuple(task.spec.depends_on), task.spec.parent_task_id)


async def _told(events: Events) -> AsyncIterator[Told]:
    async with aclosing(events.watch(after=0, types=["task."])) as stream:
        while True:
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    answer = await anext(stream)
            except TimeoutError:
                return
            event = answer.event
            yield Told(event.type, event.task_id, int(event.details.get("attempt", "0")))
