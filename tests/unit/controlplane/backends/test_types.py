"""Types of tasks are files: those of the package, and a user's own over them, as they are at this moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_conductor.errors import InvalidArgumentError, SettingsError
from controlplane.backends.types.folder import TypeFolder
from controlplane.backends.types.type_file import parse
from controlplane.domain.task import IsolationLevel
from controlplane.domain.task_type import TaskType
from controlplane.service.kinds import Kinds

BUILT_IN = ["analysis", "code_review", "generic", "refactor", "test_generation"]
WHOLE = b"""---
about: Does
  it
priority: 7
timeout: 1h30m
attempts: 2
level: strict
---
Do {prompt}
---
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "types"
    path.mkdir()
    return path


def test_the_package_has_the_types_of_the_description(tmp_path: Path):
    kinds = TypeFolder(tmp_path / "none").all()

    assert [kind.name for kind in kinds] == BUILT_IN
    assert not any(kind.problem or kind.file for kind in kinds)
    assert all(kind.about and "{files}" in kind.template for kind in kinds if kind.name != "generic")
    assert kinds[2].template.strip() == "{prompt}"


def test_a_file_says_what_agents_are_told_and_what_holds_by_default():
    assert parse("x", WHOLE, "x.md") == TaskType("x", "Do {prompt}\n---\n", "Does it", 7, 5400.0, 2, IsolationLevel.STRICT)
    assert parse("x", b"only {prompt}", "x.md") == TaskType("x", "only {prompt}")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"no place", ["{prompt}"]),
        (b"---\nabout: x\n{prompt}", ["no end", "line=1"]),
        (b"---\nabout: x\ntimout: 3m\n---\n{prompt}", ["timout", "`timeout`", "line=3"]),
        (b"---\npriority: 11\n---\n{prompt}", ["priority", "1 to 10", "line=2"]),
        (b"---\nattempts: true\n---\n{prompt}", ["attempts", "line=2"]),
        (b"---\ntimeout: soon\n---\n{prompt}", ["timeout", "30m", "line=2"]),
        (b"---\ntimeout: 0\n---\n{prompt}", ["timeout", "above 0"]),
        (b"---\ntimeout: [1]\n---\n{prompt}", ["timeout", "30m"]),
        (b"---\nlevel: loose\n---\n{prompt}", ["level", "strict, moderate or minimal"]),
        (b"---\nabout: [\n---\n{prompt}", ["no YAML", "x.md"]),
        (b"\xff{prompt}", ["UTF-8"]),
        (b"{prompt}" + b"x" * (64 << 10), ["64 KiB"]),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(raw: bytes, words: list[str]):
    with pytest.raises(SettingsError) as problem:
        parse("x", raw, "x.md")
    details = " ".join(f"{name}={value}" for name, value in problem.value.details.items())
    said = f"{problem.value} {problem.value.next_step} {details}"
    assert all(word in said for word in words), said


def test_a_file_of_the_user_counts_at_once_and_over_the_packages(folder: Path):
    types = TypeFolder(folder)
    assert types.find("refactor") == TypeFolder(folder / "none").find("refactor")
    path = folder / "refactor.md"
    for template in ("mine: {prompt}", "again: {prompt}"):
        path.write_text(template)
        found = types.find("refactor")
        assert found is not None
        assert (found.template, found.file) == (template, str(path))
    path.unlink()
    assert types.find("refactor") == TypeFolder(folder / "none").find("refactor")
    (folder / "new_one.md").write_text("{prompt} please")
    (folder / "Not-A-Name.md").write_text("{prompt}")
    (folder / "notes.txt").write_text("x")
    assert [kind.name for kind in types.all()] == sorted([*BUILT_IN, "new_one"])


def test_no_name_leads_out_of_the_folder(folder: Path):
    (folder.parent / "secret.md").write_text("{prompt}")

    for name in ("../secret", "/etc/passwd", "", "a" * 65, "Generic", "a.b"):
        assert TypeFolder(folder).find(name) is None


def test_a_file_that_cannot_be_used_refuses_its_tasks_and_no_others(folder: Path):
    (folder / "bad.md").write_text("---\npriority: high\n---\n{prompt}")
    os.mkfifo(folder / "pipe.md")
    kinds = Kinds(TypeFolder(folder))

    for name, word in (("bad", "bad.md:2"), ("pipe", "no ordinary file")):
        with pytest.raises(SettingsError, match=word):
            kinds.named(name)
    assert kinds.named("").name == "generic"
    assert {kind.name for kind in kinds.all() if kind.problem} == {"bad", "pipe"}


def test_an_unknown_type_is_refused_with_the_nearest(folder: Path):
    with pytest.raises(InvalidArgumentError) as refused:
        Kinds(TypeFolder(folder)).named("code_revue")

    assert "did you mean code_review?" in refused.value.next_step
    assert "test_generation" in refused.value.next_step
