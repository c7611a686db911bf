"""A file of tasks is understood as a whole, or refused with its place; what waits for what has an order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.cli.request import Request
from claude_conductor.cli.submission import plan, repeatable, requests
from claude_conductor.cli.task_file import Entry, cycle, in_order, read
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.settings import yaml_file
from claude_conductor.v1 import task_pb2
from claude_conductor.v1.task_pb2 import FanOut


def entries(text: str, base: Request = Request()) -> list[Entry]:  # noqa: B008 - a value
    return read(yaml_file.parse(text.encode(), "t.yaml", "tasks"), base)


def test_an_entry_wins_over_the_files_defaults_and_these_over_the_flags():
    text = """
defaults: {agent: scripted, priority: 4, labels: {team: a}}
tasks:
- prompt: one
- {prompt: two, priority: 9, labels: {a: 1}, files: [x], dirty: false}
"""
    first, second = (entry.request for entry in entries(text, Request(agent="command", priority=3, timeout="5m")))

    assert (first.prompt, first.agent, first.priority, first.timeout, first.labels) == ("one", "scripted", 4, "5m", {"team": "a"})
    assert (second.priority, second.labels, second.files) == (9, {"a": "1"}, ("x",))


def test_a_time_without_quotes_is_the_text_that_was_written():
    starts = [
        entry.request.at
        for entry in entries("""
tasks:
- {prompt: one, at: 2026-11-24 03:00:00}
- {prompt: two, at: 2026-11-24 03:00}
- {prompt: three, at: 2026-11-24}
- {prompt: four, at: 2026-11-24T03:00:00+09:00, model: 2026-11-24}
""")
    ]

    assert starts == ["2026-11-24T03:00:00", "2026-11-24 03:00", "2026-11-24", "2026-11-24T03:00:00+09:00"]
    with pytest.raises(InvalidArgumentError, match="point in time"):
        entries("tasks: [{prompt: one, at: soon}]")


def test_names_become_places_and_ids_stay_ids():
    text = """
tasks:
- {prompt: last, after: [one, two, one, task_0197]}
- {prompt: 1, name: one}
- {prompt: 2, name: two, after: one}
"""
    last, one, two = entries(text)

    assert (last.after, last.depends_on) == ((1, 2), ("task_0197",))
    assert (one.name, one.after, two.after) == ("one", (), (1,))
    assert in_order([last, one, two]) == [1, 2, 0]
    assert [last.label(0), one.label(1)] == ["#1", "one"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tasks: []", ["list of at least one"]),
        ("", ["list of at least one"]),
        ("jobs: []", ["`tasks`"]),
        ("tasks: [{prompt: x}]\ntask: x", ["`tasks`"]),
        ("tasks:\n- prompt: x\n  promt: y\n", ["promt", "line=3", "`prompt`"]),
        ("tasks:\n- prompt: x\n  setup: make\n  setup_network: [pypi.org]\n", ["setup_network", "no network", "line=4"]),
        ("tasks:\n- prompt: x\n  aftr: y\n", ["aftr", "line=3", "`after`"]),
        ("defaults:\n  name: x\ntasks:\n- prompt: x\n", ["`name`", "line=2"]),
        ("defaults: 3\ntasks:\n- prompt: x\n", ["block of keys", "line=1"]),
        ("tasks:\n- just words\n", ["block of keys", "line=2"]),
        ("tasks:\n- prompt: x\n  priority: high\n", ["priority", "whole number", "line=3"]),
        ("tasks:\n- prompt: x\n  dirty: 1\n", ["dirty", "true or false", "line=3"]),
        ("tasks:\n- prompt: x\n  timeout: soon\n", ["--timeout", "line=3"]),
        ("tasks:\n- prompt: x\n- priority: 3\n", ["nothing to do", "line=3"]),
        ("tasks:\n- prompt: x\n  name: a\n- prompt: x\n  name: a\n", ["twice", "line 3", "line=5"]),
        ("tasks:\n- prompt: x\n  name: task_1\n", ["does not begin", "line=3"]),
        ("tasks:\n- prompt: x\n  name: build\n- prompt: y\n  after:\n  - build\n  - biuld\n", ["`biuld`", "`build`", "line=7"]),
        ("tasks:\n- prompt: x\n  after: {a: 1}\n", ["list of names", "line=3"]),
        ("tasks:\n- prompt: x\n  name: a\n  after: a\n", ["a -> a", "line=4"]),
        ("tasks:\n- prompt: x\n  repo: .\n  writes: src/\n", ["`writes` is a list", "line=4"]),
        ("tasks:\n- prompt: x\n  repo: .\n  writes: [src/, ../x]\n", ["leads out", "line=4"]),
        (
            "tasks:\n- {prompt: x, name: a, after: c}\n- {prompt: x, name: b, after: a}\n- {prompt: x, name: c, after: b}\n",
            ["a -> c -> b -> a", "line=2"],
        ),
        ("tasks:\n- subtasks: []\n", ["list of at least one", "line=2"]),
        ("tasks:\n- prompt: x\n  parallel: 2\n", ["`subtasks`", "line=2"]),
        ("tasks:\n- parallel: 0\n  subtasks: [{prompt: x}]\n", ["`parallel`", "line=2"]),
        ("tasks:\n- parallel: two\n  subtasks: [{prompt: x}]\n", ["`parallel`", "line=2"]),
        ("tasks:\n- on_failure: cry\n  subtasks: [{prompt: x}]\n", ["`stop`", "line=2"]),
        ("tasks:\n- subtasks: [{prompt: x}]\n  budget_usd: 3\n", ["`budget_usd`", "subtasks", "line=3"]),
        ("tasks:\n- subtasks:\n  - prompt: x\n  - promt: y\n", ["promt", "`prompt`", "line=4"]),
        ("tasks:\n- subtasks:\n  - prompt: x\n  - subtasks: [{prompt: y}]\n", ["no groups within", "line=4"]),
        ("tasks:\n- subtasks:\n  - prompt: x\n  - priority: 3\n", ["nothing to do", "line=4"]),
        ("tasks:\n- name: g\n  subtasks:\n  - prompt: x\n    after: g\n", ["g -> ", "line="]),
        ("tasks:\n- name: g\n  subtasks: [{prompt: x, after: y}]\n- {name: y, prompt: y, after: g}\n", ["g -> g.1 -> y -> g"]),
        ("tasks:\n- subtasks: [{prompt: x, name: a}]\n- prompt: y\n  after: a\n", ["wait for its group", "line=4"]),
        (f"tasks:\n- prompt: x\n  after: [{', '.join(f'task_{n}' for n in range(101))}]\n", ["at most 100", "line=3"]),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, words: list[str]):
    with pytest.raises(InvalidArgumentError) as problem:
        entries(text)
    details = " ".join(f"{name}={value}" for name, value in problem.value.details.items())
    said = f"{problem.value} {problem.value.next_step} {details}"
    assert all(word in said for word in [*words, "file=t.yaml"]), said


@st.composite
def graphs(draw: st.DrawFn) -> list[Entry]:
    size = draw(st.integers(1, 8))
    others = st.lists(st.integers(0, size - 1), max_size=3, unique=True)
    return [Entry(Request(prompt=str(n)), after=tuple(draw(others))) for n in range(size)]


@given(graphs())
def test_either_there_is_a_circle_or_an_order(graph: list[Entry]):
    circle = cycle(graph)
    if circle:
        assert circle[0] == circle[-1]
        assert all(after in graph[before].after for before, after in pairwise(circle))
    else:
        order = in_order(graph)
        assert sorted(order) == list(range(len(graph)))
        assert all(order.index(other) < order.index(n) for n, entry in enumerate(graph) for other in entry.after)


def keys(text: str, source: str = "t.yaml", run: str = "") -> dict[str, str]:
    return {each.label: each.request_id for each in repeatable(entries(text), source, run)}


CHAIN = """
tasks:
- {name: a, prompt: first}
- {name: b, prompt: second, after: a}
- {name: c, prompt: third}
"""


def test_the_same_file_has_the_same_keys_whatever_its_order():
    turned = """
tasks:
- {name: c, prompt: third}
- {name: b, after: [a], prompt: second}
- {prompt: first, name: a}
"""
    assert keys(CHAIN) == keys(turned)
    assert len(set(keys(CHAIN).values())) == 3
    assert all(len(key) <= 128 for key in keys(CHAIN).values())


def test_what_changed_is_new_and_so_is_what_waits_for_it():
    before, after = keys(CHAIN), keys(CHAIN.replace("first", "another"))

    assert {name for name in before if before[name] != after[name]} == {"a", "b"}


def test_another_run_or_file_is_all_new():
    for other in (keys(CHAIN, run="2"), keys(CHAIN, source="u.yaml")):
        assert not set(keys(CHAIN).values()) & set(other.values())


def test_tasks_that_are_the_same_are_still_two():
    assert len(set(keys("tasks: [{prompt: x}, {prompt: x}]").values())) == 2
    assert set(keys("tasks: [{prompt: x}, {prompt: x}]").values()) < set(
        keys("tasks: [{prompt: x}, {prompt: y}, {prompt: x}]").values()
    )


def test_the_example_can_be_read():
    text = yaml_file.read(Path(__file__).resolve().parents[3] / "examples/tasks.yaml", "tasks")

    found = [(entry.name, entry.after) for entry in read(text, Request()) if entry.within is None]
    assert found == [("green", ()), ("tests", (0,)), ("parser", (0,)), ("pages", (2,)), ("report", (1, 3))]


GROUPS = """
tasks:
- {name: before, prompt: b}
- name: all
  parallel: false
  on_failure: stop
  prompt: tidy up
  priority: 7
  after: before
  subtasks:
  - files: [a.py]
  - {files: [b.py], prompt: rewrite, name: b}
  - {files: [c.py], after: b}
- {name: then, prompt: t, after: all}
"""


def test_a_group_stands_before_its_subtasks_which_have_what_it_says():
    _, group, first, second, third, then = entries(GROUPS)
    assert group.group == FanOut(parallel=1, on_failure=task_pb2.SUBTASK_FAILURE_STOP)
    assert (group.request, group.after) == (Request(prompt="tidy up", priority=7), (0,))
    assert [(each.name, each.within, each.after) for each in (first, second, third)] == [
        ("all.1", 1, ()),
        ("b", 1, ()),
        ("all.3", 1, (3,)),
    ]
    assert [(each.request.prompt, each.request.priority) for each in (first, second)] == [("tidy up", 7), ("rewrite", 7)]
    assert then.after == (1,)
    for parallel, at_once in (("true", 0), ("3", 3)):
        assert entries(GROUPS.replace("false", parallel))[1].group.parallel == at_once
    planned = plan(entries(GROUPS))
    assert [each.within for each in planned] == [None, None, 1, 1, 1, None]
    assert planned[1].spec == task_pb2.TaskSpec(prompt="tidy up", priority=7, fan_out=group.group)


def test_a_group_is_asked_for_again_as_a_whole_or_is_another_one():
    told = keys(GROUPS)
    assert keys(GROUPS) == told
    assert len(set(told.values())) == len(told)
    grown = keys(GROUPS.replace("  - files: [a.py]", "  - files: [a.py]\n  - files: [z.py]"))
    assert grown["before"] == told["before"]
    assert not set(grown.values()) - {grown["before"]} & set(told.values())
    earlier = keys(GROUPS.replace("- {name: before", "- {prompt: new}\n- {name: before"))
    assert told.items() <= earlier.items(), "an entry elsewhere changes nothing"
    other = keys(GROUPS.replace("prompt: b}", "prompt: c}"))
    assert not set(other.values()) & set(told.values()), "what it waits for is another"


def test_groups_are_submitted_in_one_request():
    text = "tasks:\n- subtasks:\n" + "  - {prompt: x}\n" * 1000
    with pytest.raises(InvalidArgumentError, match="at most 1000 tasks"):
        requests(plan(entries(text)))
