"""A group waits for its subtasks, ends when the last of them has, and says what came of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.ids import DEFAULT_TENANT, TaskId
from controlplane.backends.codec import decode, encode
from controlplane.domain import fan_out
from controlplane.domain.budget import Budget
from controlplane.domain.caps import Caps, Group, capped, full
from controlplane.domain.effects import CancelChildren, TellDependents
from controlplane.domain.lane import lane_of
from controlplane.domain.task import FailureKind, FanOut, OnFailure, Result, Spec, State, Task, Workspace
from controlplane.domain.task_machine import CancelRequested, DependencyEnded, Released, Step, admit, apply

GROUP = TaskId("task_group")
A, B, C = (TaskId(f"task_{name}") for name in "abc")


def task(task_id: str = "task_1", **spec: object) -> Task:
    return Task(
        TaskId(task_id),
        DEFAULT_TENANT,
        Spec(**spec),
        State.BLOCKED,
        "",
        create_time=100.0,
        submitter="operator",  # type: ignore[arg-type]
    )


def group(on_failure: OnFailure = OnFailure.FINISH, *subtasks: TaskId) -> Task:
    bare = task(GROUP, fan_out=FanOut(2, on_failure))
    return admit(fan_out.gathering(bare, subtasks or (A, B, C))).task


def ended(task_id: TaskId, state: State = State.SUCCEEDED, words: str = "") -> DependencyEnded:
    return DependencyEnded(task_id, state is State.SUCCEEDED, 110.0, state, words)


def test_a_group_is_blocked_and_says_for_whom_it_waits() -> None:
    assert (group().state, group().reason) == (State.BLOCKED, "waits for 3 of 3 subtasks: task_a, task_b, task_c")
    one_less = apply(group(), ended(B)).task
    assert one_less.reason == "waits for 2 of 3 subtasks: task_a, task_c"
    assert apply(one_less, ended(B)) == Step(one_less), "told twice"
    assert apply(one_less, Released(999.0)) == Step(one_less)


def test_a_group_succeeds_when_all_have_and_gathers_their_words_in_its_order() -> None:
    step = Step(group())
    for each, words in ((C, "third\n"), (A, "first"), (B, "")):
        step = apply(step.task, ended(each, words=words))
    assert (step.task.state, step.task.reason) == (State.SUCCEEDED, "all 3 subtasks succeeded")
    assert step.task.result == Result(summary="task_a (succeeded)\nfirst\ntask_b (succeeded)\ntask_c (succeeded)\nthird")
    assert TellDependents(succeeded=True) in step.effects
    assert not any(part.words for part in step.task.parts), "they are kept once"


def test_one_that_did_not_succeed_lets_the_others_finish_and_fails_the_group_then() -> None:
    step = apply(group(), ended(A, State.DEAD, "exit code 1"))
    assert (step.task.state, step.effects) == (State.BLOCKED, ())
    step = apply(apply(step.task, ended(B)).task, ended(C, State.TIMED_OUT))
    assert step.task.state is State.FAILED
    assert step.task.reason == "2 of 3 subtasks did not succeed: task_a (dead), task_c (timed out)"
    assert step.task.result is not None
    assert step.task.result.failure is not None
    assert step.task.result.failure.kind is FailureKind.DEPENDENCY
    assert step.task.result.summary.startswith("task_a (dead)\nexit code 1\n")
    assert TellDependents(succeeded=False) in step.effects


def test_the_first_failure_stops_the_others_once_and_the_group_waits_for_their_end() -> None:
    step = apply(group(OnFailure.STOP), ended(B, State.FAILED))
    why = "subtask task_b did not succeed, which stops the others of its group"
    assert (step.task.state, step.effects) == (State.BLOCKED, (CancelChildren(why),))
    assert step.task.reason == f"waits for 2 of 3 subtasks: task_a, task_c; {why}"
    assert fan_out.stopped(step.task) == why, "what a restart repeats"
    step = apply(step.task, ended(A, State.CANCELLED))
    assert step.effects == ()
    assert apply(step.task, ended(C, State.CANCELLED)).task.state is State.FAILED
    assert apply(group(OnFailure.STOP, B), ended(B, State.FAILED)).task.state is State.FAILED


def test_cancelling_a_group_cancels_its_subtasks() -> None:
    step = apply(group(), CancelRequested("enough", 5.0, 120.0))
    assert (step.task.state, step.task.waits_for) == (State.CANCELLED, frozenset())
    assert CancelChildren("enough") in step.effects
    assert apply(step.task, ended(A)) == Step(step.task)


def test_words_are_cut_so_that_a_group_stays_small() -> None:
    many = [TaskId(f"task_{number}") for number in range(1000)]
    step = Step(group(OnFailure.FINISH, *many))
    for each in many[:3]:
        step = apply(step.task, ended(each, words="x" * 100_000))
    assert sum(len(part.words) for part in step.task.parts) <= 3 * fan_out.WORDS // 1000


def test_a_group_is_stored_as_it_is() -> None:
    for each in (
        group(OnFailure.STOP),
        apply(group(), ended(A, State.DEAD, "no")).task,
        replace(task(fan_out=FanOut()), parallel=0),
    ):
        assert decode(Task, encode(each)) == each


def test_parallel_is_a_cap_of_the_group_and_part_of_the_lane() -> None:
    def subtask(parallel: int | None, parent: str = GROUP) -> Task:
        return replace(task(parent_task_id=parent), parallel=parallel)

    counted = Group(DEFAULT_TENANT, "group", GROUP)
    assert capped(subtask(2), Caps()) == {counted: 2}
    assert capped(subtask(0), Caps()) == capped(subtask(None), Caps()) == {}
    assert full(subtask(2), Caps(), {counted: 1}) == ""
    assert "task_group has 2 of 2 subtasks with agents" in full(subtask(2), Caps(), {counted: 2})
    lanes = {lane_of(each, Caps()) for each in (subtask(2), subtask(2, "task_other"), subtask(0), subtask(None), task())}
    assert len(lanes) == 5


def test_what_an_agent_would_need_is_not_said_of_a_group() -> None:
    assert fan_out.faults(Spec(fan_out=FanOut(), prompt="all", labels={"a": "b"}, depends_on=(A,))) == []
    assert fan_out.faults(Spec(driver="command")) == []
    for name, wrong in (
        ("driver", Spec(fan_out=FanOut(), driver="scripted")),
        ("workspace", Spec(fan_out=FanOut(), workspace=Workspace("git", "/r"))),
        ("budget", Spec(fan_out=FanOut(), budget=Budget(tokens=1))),
        ("parent_task_id", Spec(fan_out=FanOut(), parent_task_id="task_1")),
        ("fan_out.parallel", Spec(fan_out=FanOut(1001))),
    ):
        assert [field for field, _ in fan_out.faults(wrong)] == [f"spec.{name}"]


def test_a_subtask_waits_for_what_its_group_waits_for() -> None:
    asked = fan_out.subtask(Spec(depends_on=(B,), not_before=5.0), Spec(depends_on=(A, B), follows=(C,), not_before=9.0), GROUP)
    assert asked == Spec(depends_on=(B, A), follows=(C,), not_before=9.0, parent_task_id=GROUP)


GROUPED = Spec(fan_out=FanOut())


@pytest.mark.parametrize(
    ("specs", "after", "within", "told"),
    [
        ([GROUPED], [()], [None], "at least one subtask"),
        ([Spec(), Spec()], [(), ()], [None, 0], "behind its group"),
        ([Spec(), GROUPED], [(), ()], [1, None], "behind its group"),
        ([GROUPED, Spec(), Spec()], [(), (), ()], [None, 0, 7], "behind its group"),
        ([GROUPED, GROUPED], [(), ()], [None, 0], "no groups within"),
        ([GROUPED, Spec(parent_task_id="task_1")], [(), ()], [None, 0], "leave `parent_task_id` out"),
        ([GROUPED, Spec()], [(), (0,)], [None, 0], "wait for each other"),
        ([GROUPED, Spec(), Spec()], [(), (0,), (1,)], [None, None, 0], "wait for each other"),
        ([GROUPED, GROUPED, Spec(), Spec()], [(), (), (1,), (0,)], [None, None, 0, 1], "wait for each other"),
        ([GROUPED, GROUPED, Spec(), Spec()], [(), (0,), (1,), ()], [None, None, 0, 1], "wait for each other"),
    ],
)
def test_groups_that_make_no_sense_are_refused(
    specs: list[Spec], after: list[tuple[int, ...]], within: list[int | None], told: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=told) as refused:
        fan_out.check(specs, after, within)
    assert "task" in refused.value.details


def test_groups_in_a_row_are_no_circle() -> None:
    fan_out.check([GROUPED, Spec(), GROUPED, Spec(), Spec()], [(), (), (0,), (1,), (2,)], [None, 0, None, 2, None])
