"""What the meter makes of the changes of tasks, and of calls of the store."""

from dataclasses import replace

import pytest

from claude_conductor.errors import StoreUnavailableError
from claude_conductor.ids import AgentId
from controlplane.domain.events import Event
from controlplane.domain.task import Attempt, Failure, FailureKind, Lease, ModelUsage, Spec, State, Usage
from controlplane.service.meter import UNKNOWN_MODEL, Meter
from controlplane.service.timed import timed
from tests.contract import samples

NOTHING = Usage()


def leased(task, at):
    attempt = Attempt(1, AgentId("agent-1"), at)
    return replace(task, state=State.LEASED, state_time=at, attempts=(attempt,), lease=Lease(task.id, 1, 7))


def ended(task, state, at, failure=None, usage=NOTHING):
    attempt = replace(task.attempts[-1], end_time=at, failure=failure, usage=usage)
    return replace(task, state=state, state_time=at, attempts=(attempt,), lease=None)


def test_a_task_is_counted_where_it_stands_and_its_waiting_is_timed():
    meter = Meter()
    first, second = samples.task(0), samples.task(40, spec=Spec(priority=9))

    meter.task(None, first)
    meter.task(None, second)
    oldest = dict(meter.oldest(samples.START + 100))
    meter.task(first, leased(first, samples.START + 3))

    assert oldest == {("default", "5"): 100, ("default", "9"): 60}
    assert dict(meter.open_tasks()) == {("default", "leased", "5"): 1, ("default", "queued", "9"): 1}
    assert dict(meter.oldest(samples.START + 100)) == {("default", "9"): 60}
    [(labels, _, waited)] = meter.queued.read()
    assert (labels, waited) == (("5",), 3)


def test_an_attempt_that_ends_counts_once_with_its_kind_and_what_it_used():
    meter, task = Meter(), samples.task(0)
    at_work = leased(task, samples.START + 1)
    running = replace(at_work, state=State.RUNNING, state_time=samples.START + 2)
    used = Usage(input_tokens=100, output_tokens=7, cost_usd=0.5, models=(ModelUsage("m", input_tokens=90, cost_usd=0.4),))
    failed = ended(running, State.FAILED, samples.START + 9, Failure(FailureKind.OUT_OF_MEMORY, "x"), used)

    for before, after in (
        (None, task),
        (task, at_work),
        (at_work, running),
        (running, failed),
        (failed, replace(failed, progress="p")),
    ):
        meter.task(before, after)

    counted = {labels: value for labels, value in meter.attempts.read() if value}
    assert counted == {("out_of_memory",): 1}
    assert dict(meter.tokens.read()) == {("m", "input"): 90, (UNKNOWN_MODEL, "input"): 10, (UNKNOWN_MODEL, "output"): 7}
    assert {labels[0]: round(value, 9) for labels, value in meter.cost.read()} == {"m": 0.4, UNKNOWN_MODEL: 0.1}
    assert dict(meter.open_tasks()) == {}
    assert dict(meter.ended.read())["default", "failed"] == 1


def test_a_task_that_goes_back_to_the_queue_is_an_ended_attempt_but_no_ended_task():
    meter, task = Meter(), samples.task(0)
    at_work = leased(task, samples.START + 1)
    again = ended(at_work, State.QUEUED, samples.START + 2, Failure(FailureKind.AGENT_LOST, "gone"))

    for before, after in ((None, task), (task, at_work), (at_work, again)):
        meter.task(before, after)

    assert dict(meter.attempts.read())[("agent_lost",)] == 1
    assert not any(value for _, value in meter.ended.read())
    assert dict(meter.open_tasks()) == {("default", "queued", "5"): 1}


def test_what_alerts_look_at_begins_at_zero():
    meter = Meter()

    assert dict(meter.attempts.read())[("isolation_refused",)] == 0
    assert dict(meter.undelivered.read())[("dead",)] == 0


def test_events_that_are_counted():
    meter = Meter()

    for kind in ("agent.lost", "message.dead", "message.redriven", "task.running"):
        meter.event(Event(kind, samples.START, "x"))

    assert dict(meter.lost.read()) == {(): 1}
    assert dict(meter.undelivered.read()) == {("dead",): 1, ("bounced",): 0, ("expired",): 0}


async def test_calls_of_a_store_are_timed_and_those_that_fail_counted():
    class Store:
        async def get(self, number):
            return number + 1

        async def save(self):
            raise StoreUnavailableError

    meter = Meter()
    store = timed(Store(), "tasks", meter)

    assert await store.get(1) == 2
    assert await store.get(2) == 3
    with pytest.raises(StoreUnavailableError):
        await store.save()

    assert {labels: sum(counts) for labels, counts, _ in meter.store.read()} == {("tasks", "get"): 2, ("tasks", "save"): 1}
    assert dict(meter.store_failed.read()) == {("tasks", "get"): 0, ("tasks", "save"): 1}
