"""What an agent is told is its prompt within the template of the task's type."""

from __future__ import annotations

import pytest

from controlplane.domain.task_type import TaskType, canonical, instructions


def test_a_type_that_adds_nothing_tells_the_prompt_alone():
    assert instructions(TaskType("generic", "{prompt}\n"), "  do it\n", ("a",)) == ""


def test_prompt_and_files_are_filled_in_once():
    kind = TaskType("x", "Do {prompt} in\n{files}\nand {nothing} else, {prompt}")

    assert instructions(kind, "{files}", ("a {prompt}", "b")) == "Do {files} in\n- a {prompt}\n- b\nand {nothing} else, {files}\n"
    assert instructions(kind, "x", ()).splitlines()[1] == "the whole workspace"


@pytest.mark.parametrize(("written", "stored"), [("", "generic"), (" Code-Review ", "code_review"), ("x", "x")])
def test_names_are_written_in_several_ways(written: str, stored: str):
    assert canonical(written) == stored
