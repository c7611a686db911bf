"""The checker of tasks finds every kind of error that is planted in a story, and nothing in one without errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.task_history import LOST, REVOKED, SILENT, Attempt, Row, Run, Sight, Story, Struck, Told, check, parse

ENDS = {"work": "SUCCEEDED", "parent": "SUCCEEDED", "child": "SUCCEEDED"}
FROZEN = Struck("sidecar", "freeze", "a", 0.5, 5.0)


def run(nonce: str, task_id: str, agent_id: str, began: float, code: int | None = 0) -> Run:
    return Run(nonce, task_id, agent_id, began, None if code is None else began + 1, code)


def attempt(number: int, agent_id: str, at: float, nonce: str, failure: str = "", message: str = "") -> Attempt:
    return Attempt(number, agent_id, at, at, at + 2, failure, message, f"run {nonce}\n" if nonce else "")


def right() -> Story:
    """One task after another, of which the first lost an agent that was frozen, came back with it, and was refused."""
    first = Row("t1", "work", "SUCCEEDED", (attempt(1, "a", 0, "n1", LOST, f"{SILENT} for 3 s"), attempt(2, "b", 3, "n2")))
    second = Row("t2", "parent", "SUCCEEDED", (attempt(1, "a", 10, "n3"),), after=("t1",))
    third = Row("t3", "child", "SUCCEEDED", (attempt(1, "b", 11, "n4"),), parent="t2")
    runs = [
        run("n1", "t1", "a", 0),
        run("n2", "t1", "b", 3),
        replace(run("n3", "t2", "a", 10), children=("t3",)),
        run("n4", "t3", "b", 11),
    ]
    sights = {"t1": [Sight(1, "QUEUED", 0), Sight(3, "RUNNING", 1), Sight(8, "SUCCEEDED", 2)]}
    events = [Told("task.leased", "t1", 1), Told(REVOKED, "t1", 1), Told("task.succeeded", "t1", 2)]
    return Story({"t1": "wish 0", "t2": "wish 1"}, ENDS, runs, [first, second, third], sights, events, [FROZEN], children=1)


def kinds(story: Story) -> set[str]:
    return {violation.kind for violation in check(story)}


def test_nothing_is_wrong_with_a_story_without_errors() -> None:
    assert check(right()) == []
    assert [each.nonce for each in right().wasted()] == ["n1"]


def row(place: int, **changes: object) -> Story:
    """Return the story with another row; `attempts` in it replaces some by their number."""
    story = right()
    rows = list(story.rows)
    rows[place] = replace(rows[place], **changes)  # type: ignore[arg-type]
    return replace(story, rows=rows)


def tried(place: int, which: int, /, **changes: object) -> Story:
    attempts = list(right().rows[place].attempts)
    attempts[which - 1] = replace(attempts[which - 1], **changes)  # type: ignore[arg-type]
    return row(place, attempts=tuple(attempts))


def ran(place: int, **changes: object) -> Story:
    story = right()
    runs = list(story.runs)
    runs[place] = replace(runs[place], **changes)  # type: ignore[arg-type]
    return replace(story, runs=runs)


def sights(*seen: Sight) -> Story:
    return replace(right(), sights={"t1": seen})


def events(*told: Told) -> Story:
    return replace(right(), events=told)


BACK = Told(REVOKED, "t1", 1)
PLANTED: dict[str, tuple[str, Callable[[], Story]]] = {
    "a stored task is nowhere": ("lost", lambda: replace(right(), submitted={"t9": "wish 9"})),
    "somebody worked on what nobody knows": ("lost", lambda: ran(0, task_id="t9")),
    "it goes on for ever": ("no end", lambda: row(0, state="RUNNING")),
    "it ended otherwise": ("wrong end", lambda: row(0, state="FAILED")),
    "it was given up too early": ("wrong end", lambda: row(0, state="DEAD")),
    "an attempt of an ended task goes on": ("wrong end", lambda: tried(1, 1, ended=None)),
    "it ended and went on": ("went on", lambda: sights(Sight(8, "SUCCEEDED", 2), Sight(9, "QUEUED", 2))),
    "what was stored is gone": ("went back", lambda: sights(Sight(8, "RUNNING", 2), Sight(7, "LEASED", 2))),
    "an attempt is forgotten": ("went back", lambda: sights(Sight(8, "RUNNING", 2), Sight(9, "QUEUED", 1))),
    "it ended twice": ("two ends", lambda: events(BACK, Told("task.succeeded", "t1"), Told("task.dead", "t1"))),
    "nobody made the result": ("a result without its run", lambda: tried(0, 2, output="")),
    "two runs made one result": ("a result without its run", lambda: tried(0, 2, output="run n2\nrun n1\n")),
    "another task's run made it": ("somebody else's result", lambda: ran(1, task_id="t2")),
    "another agent made it": ("somebody else's result", lambda: ran(1, agent_id="a")),
    "a failure counts as success": ("another result", lambda: ran(1, code=1)),
    "a success counts as failure": ("another result", lambda: tried(0, 2, failure="EXIT_CODE")),
    "the late result counts, too": ("counted twice", lambda: tried(0, 1, failure="", message="")),
    "a run counts for two attempts": ("counted twice", lambda: tried(0, 1, output="run n2\n")),
    "an attempt began before the last one ended": ("two leases", lambda: tried(0, 2, leased=1.0)),
    "an attempt is left out": ("two leases", lambda: tried(0, 2, number=3)),
    "an agent has two tasks": ("two tasks at once", lambda: tried(2, 1, leased=4.0)),
    "it ran before what it depends on": ("out of order", lambda: ran(2, began=3.5)),
    "it ran although that failed": ("out of order", lambda: row(0, state="DEAD", attempts=right().rows[0].attempts[:1])),
    "nothing happened to its agent": ("needless loss", lambda: replace(right(), strikes=[])),
    "only the control plane was hit": (
        "needless loss",
        lambda: replace(right(), strikes=[Struck("control plane", "kill", "", 0.5, 5)]),
    ),
    "it was hit afterwards": ("needless loss", lambda: replace(right(), strikes=[replace(FROZEN, began=6.0)])),
    "a parent has a child twice": ("wrong children", lambda: replace(right(), children=2)),
    "a run was told of a child that is not its own": ("wrong children", lambda: row(2, parent="t1")),
    "nobody was told of the late result": ("hidden", lambda: events(Told("task.succeeded", "t1"))),
    "a result was refused and counts": ("refused and counted", lambda: events(BACK, Told(REVOKED, "t1", 2))),
}


@pytest.mark.parametrize(("kind", "planted"), PLANTED.values(), ids=PLANTED)
def test_an_error_in_a_story_is_found(kind: str, planted: Callable[[], Story]) -> None:
    assert kind in kinds(planted())


def test_what_may_happen_is_no_error() -> None:
    unseen = events(Told("task.succeeded", "t1"))
    sidecar_died = Struck("sidecar", "kill", "a", 6.0, 6.0)
    plane_died = Struck("control plane", "kill", "", 6.0, 6.0)
    assert kinds(replace(unseen, strikes=[FROZEN, sidecar_died])) == set()
    assert kinds(replace(unseen, strikes=[FROZEN, plane_died])) == set()
    assert kinds(replace(unseen, strikes=[FROZEN, replace(sidecar_died, agent="b")])) == {"hidden"}
    assert kinds(tried(0, 1, output="")) == set()  # a kill lost it
    lost = [attempt(number, "a", 20 + 2 * number, "", LOST, "its sidecar was started anew") for number in range(1, 6)]
    given_up = row(2, state="DEAD", attempts=tuple(lost))
    assert kinds(replace(given_up, runs=given_up.runs[:3])) == set()
    assert kinds(replace(row(2, state="DEAD", attempts=tuple(lost[:4])), runs=given_up.runs[:3])) == {"wrong end"}


def test_a_torn_line_counts_as_not_written() -> None:
    text = '[1,"began","n","t","a","7"]\n[2,"child","n","t","a","c"]\n[3,"ended","n","t","a","0"]\n'
    assert parse(text) == Run("n", "t", "a", 1, 3, 0, ("c",))
    assert parse(text[:-2]) == Run("n", "t", "a", 1, children=("c",))
    assert parse(text[:5]) is None
