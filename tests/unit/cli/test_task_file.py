"""A file of tasks is understood as a whole, or refused with its place; what waits for what has an order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.cli.request import Request
from claude_conductor.cli.submission import repeatable
from claude_conductor.cli.task_file import Entry, cycle, in_order, read
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.settings import yaml_file


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

    found = [(entry.name, entry.after) for entry in read(text, Request())]
    assert found == [("green", ()), ("tests", (0,)), ("parser", (0,)), ("report", (1, 2))]
