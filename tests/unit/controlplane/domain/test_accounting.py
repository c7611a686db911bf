"""What a task used is the sum over its attempts, also of those whose agent was lost."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId
from controlplane.domain.accounting import added, used
from controlplane.domain.task import Failure, FailureKind, IsolationStatus, Lease, ModelUsage, Result, Spec, State, Task, Usage
from controlplane.domain.task_machine import AgentLost, Completed, Event, Leased, Progressed, Released, Started, admit, apply

ID = TaskId("task_1")
FIRST, SECOND = Lease(ID, 1, 1), Lease(ID, 2, 2)
HALF = Usage(20.0, 1.0, 100, 0.5, 10, 20, 30, 40, 2, 0.25, (ModelUsage("m", 10, 20, 30, 40, 2, 0.25),))
WHOLE = Usage(30.0, 2.0, 70, 0.0, 1, 2, 3, 4, 1, 0.5, (ModelUsage("n", 1, 2, 3, 4, 1, 0.5, 10),), 10)


def after(*events: Event) -> Task:
    task = admit(Task(ID, DEFAULT_TENANT, Spec(), State.QUEUED, "", create_time=100.0, submitter="operator")).task
    for event in events:
        task = apply(task, event).task
    return task


def given_to_an_agent(lease: Lease, at: float) -> tuple[Event, Event]:
    return Leased(lease, AgentId("agent-1"), Incarnation("i"), at), Started(lease, IsolationStatus(), at + 5)


def test_a_failed_attempt_counts_beside_the_one_that_succeeded() -> None:
    failure = Failure(FailureKind.EXIT_CODE, "exit code 1")
    task = after(
        *given_to_an_agent(FIRST, 110.0),
        Completed(FIRST, Result(failure=failure, usage=HALF), 140.0, 0.0),
        Released(1000.0),
        *given_to_an_agent(SECOND, 1000.0),
        Completed(SECOND, Result(usage=WHOLE), 1030.0, 0.0),
    )

    assert (task.state, [attempt.usage for attempt in task.attempts]) == (State.SUCCEEDED, [HALF, WHOLE])
    assert used(task) == Usage(
        *(50.0, 3.0, 100, 0.5, 11, 22, 33, 44, 3, 0.75),
        models=(ModelUsage("n", 1, 2, 3, 4, 1, 0.5, 10), ModelUsage("m", 10, 20, 30, 40, 2, 0.25)),
        unpriced_tokens=10,
    )


def test_an_attempt_that_lost_its_agent_keeps_what_was_reported_of_it_and_the_time_it_had() -> None:
    running = after(*given_to_an_agent(FIRST, 110.0), Progressed(FIRST, None, HALF))
    assert used(running) == HALF, "also while it runs"

    lost = apply(running, AgentLost(FIRST, "its sidecar ended", 155.0)).task

    assert used(lost) == replace(HALF, wall_seconds=40.0)
    done = after(*given_to_an_agent(FIRST, 110.0), AgentLost(FIRST, "gone", 155.0), *given_to_an_agent(SECOND, 200.0))
    assert used(done).wall_seconds == 40.0


def test_a_report_that_comes_late_does_not_take_back_what_was_known() -> None:
    task = after(*given_to_an_agent(FIRST, 110.0), Progressed(FIRST, None, WHOLE))
    assert apply(task, Progressed(FIRST, "on it", HALF)).task.attempts[-1].usage == WHOLE
    assert apply(task, Progressed(FIRST, None, HALF)).task is task


def test_a_task_stored_before_attempts_were_counted_shows_what_its_result_says() -> None:
    task = after(*given_to_an_agent(FIRST, 110.0), Completed(FIRST, Result(usage=WHOLE), 150.0, 0.0))
    old = replace(task, attempts=tuple(replace(attempt, usage=Usage()) for attempt in task.attempts))
    assert used(old) == WHOLE


_COUNT = st.integers(0, 1000)
_MODELS = st.builds(ModelUsage, st.sampled_from(["a", "b", "c"]), _COUNT, _COUNT, _COUNT, _COUNT, _COUNT)


@st.composite
def uses(draw: st.DrawFn) -> Usage:
    parts = draw(st.lists(_MODELS, max_size=3, unique_by=lambda each: each.model))
    total = sum(part.input_tokens for part in parts)
    return Usage(memory_peak_bytes=draw(_COUNT), input_tokens=total, models=tuple(sorted(parts, key=lambda each: each.model)))


@given(st.lists(uses(), max_size=5), st.randoms())
def test_the_sum_does_not_depend_on_the_order_and_models_make_up_the_whole(parts: list[Usage], random: object) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    sums = []
    for order in (parts, shuffled):
        total = Usage()
        for part in order:
            total = added(total, part)
        sums.append(total)
    assert sums[0] == sums[1]
    assert sum(model.input_tokens for model in sums[0].models) == sums[0].input_tokens
    assert sums[0].memory_peak_bytes == max((part.memory_peak_bytes for part in parts), default=0)
