"""Whose patch is next, and what a check says."""

from __future__ import annotations

import pytest

from claude_conductor.cli.merge_queue import (
    CHECK_LABEL,
    RETRY_LABEL,
    Verdict,
    Wanted,
    belonging,
    queue,
    unfinished,
    unrecorded,
    verdict,
)
from claude_conductor.v1 import task_pb2

ALL = Wanted("agents", "/repo")
EVICTED, LANDED = task_pb2.LANDING_STATE_EVICTED, task_pb2.LANDING_STATE_LANDED


def task(name: str, state: str = "SUCCEEDED", repo: str = "/repo", landing: int = 0, **labels: str) -> task_pb2.Task:
    made = task_pb2.Task(task_id=name, state=task_pb2.TaskState.Value(f"TASK_STATE_{state}"))
    made.spec.workspace.git.repository = repo
    made.spec.labels.update(labels)
    made.result.patch_artefact_id = "art"
    if landing:
        made.landing.state, made.landing.branch = landing, "agents"  # type: ignore[assignment]  # an enum's number
    return made


def names(tasks: list[task_pb2.Task]) -> list[str]:
    return [each.task_id for each in tasks]


def test_all_of_a_repository_land_in_the_order_of_submission_but_what_was_tried() -> None:
    tasks = [task("t4"), task("t2"), task("t1"), task("t3", landing=EVICTED), task("t5", repo="/other"), task("t6", "RUNNING")]
    tasks += [task("t7", "FAILED"), task("t8", **{CHECK_LABEL: "abc"})]
    assert names(queue(tasks, ALL, (), ())) == ["t1", "t2", "t4"]
    assert names(queue(tasks, ALL, ("t1",), ("t2",))) == ["t4"]
    assert names(queue(tasks, Wanted("other", "/repo"), (), ())) == ["t1", "t2", "t3", "t4"]
    assert names(unfinished(tasks, ALL)) == ["t6"]


def test_named_tasks_land_in_the_order_they_are_named_also_evicted_ones() -> None:
    tasks = [task("t1"), task("t2", landing=EVICTED), task("t3")]
    assert names(queue(tasks, Wanted("agents", "/repo", ("t3", "t2", "t3")), (), ())) == ["t3", "t2"]


def test_what_is_done_again_takes_the_place_of_what_was_evicted() -> None:
    tasks = [task("t1", landing=EVICTED), task("t2"), task("t3", landing=EVICTED, **{RETRY_LABEL: "t1"})]
    tasks.append(task("t4", "RUNNING", **{RETRY_LABEL: "t3"}))
    assert names(belonging(tasks, ALL)) == ["t4", "t2"]
    assert names(belonging(tasks, Wanted("agents", "/repo", ("t2", "t1")))) == ["t2", "t4"]
    assert names(belonging(tasks[2:], ALL)) == ["t4"]  # the first one is not kept any more


def test_what_is_on_the_branch_and_does_not_know_it_is_found() -> None:
    tasks = [task("t1"), task("t2", landing=LANDED), task("t3", landing=EVICTED), task("t4")]
    assert [(each.task_id, commit) for each, commit in unrecorded(tasks, ALL, {"t1": "a", "t2": "b", "t3": "c"})] == [
        ("t1", "a"),
        ("t3", "c"),
    ]


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ("SUCCEEDED", "UNSPECIFIED", Verdict.PASSED),
        ("DEAD", "EXIT_CODE", Verdict.FAILED),
        ("TIMED_OUT", "TIMEOUT", Verdict.FAILED),
        ("FAILED", "OUT_OF_MEMORY", Verdict.FAILED),
        ("FAILED", "SETUP", Verdict.FAILED),
        ("FAILED", "ISOLATION_REFUSED", Verdict.BROKEN),
        ("FAILED", "WORKSPACE", Verdict.BROKEN),
        ("DEAD", "AGENT_LOST", Verdict.BROKEN),
        ("CANCELLED", "EXIT_CODE", Verdict.BROKEN),
    ],
)
def test_only_what_the_command_did_speaks_against_a_patch(state: str, kind: str, said: Verdict) -> None:
    check = task("c", state)
    check.result.failure.kind = task_pb2.FailureKind.Value(f"FAILURE_KIND_{kind}")
    assert verdict(check) is said
