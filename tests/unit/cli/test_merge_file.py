"""A file of tasks says where its patches land, or is refused before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_conductor.cli import merge_file
from claude_conductor.cli.merge_file import Merging
from claude_conductor.cli.request import Request
from claude_conductor.cli.task_file import Entry, read
from claude_conductor.errors import ConductorError, InvalidArgumentError
from claude_conductor.settings import yaml_file
from tests.fakes.repository import make_repository


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    make_repository(tmp_path / "repo")
    return tmp_path / "repo"


def asked(block: str, *repos: Path | str) -> Merging | None:
    text = yaml_file.parse(f"tasks: [{{prompt: x}}]\n{block}\n".encode(), "t.yaml", "tasks")
    assert read(text, Request(agent="scripted"))
    return merge_file.read(text, [Entry(Request(repo=str(repo))) for repo in repos])


def test_a_block_says_the_branch_and_the_check(repo: Path) -> None:
    assert asked("", repo) is None
    made = asked("merge: {onto: agents, check: make test, level: moderate, setup_cache: [a.lock], setup: make deps}", repo, repo)
    assert made is not None
    assert (made.branch.branch, made.branch.top) == ("agents", repo)
    assert (made.check.cmd, made.check.level, made.check.setup_cache) == ("make test", "moderate", ("a.lock",))
    assert (made.check.attempts, made.check.priority) == (1, 10)
    plain = asked("merge: {onto: agents, check: make test}", repo)
    assert plain is not None
    assert plain.check.level == "strict"


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("merge: agents", "on which branch"),
        ("merge: {onto: agents}", "on which branch"),
        ("merge: {onto: agents, check: x, chek: y}", "nearest valid one is `check`"),
        ("merge: {onto: agents, check: [x]}", "is a text"),
        ("merge: {onto: agents, check: x, allow: pypi}", "is a list"),
        ("merge: {onto: agents, check: x, level: none}", "strict"),
        ("merge: {onto: a..b, check: x}", "name of a branch"),
        ("merge: {onto: agents, check: x, from: nope}", "nope"),
    ],
)
def test_a_block_that_cannot_be_is_refused(repo: Path, block: str, words: str) -> None:
    with pytest.raises(ConductorError) as refused:
        asked(block, repo)
    assert words in f"{refused.value.message} {refused.value.next_step}"


@pytest.mark.parametrize("others", [("",), ("elsewhere",)])
def test_tasks_of_several_repositories_land_nowhere(repo: Path, others: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="one repository"):
        asked("merge: {onto: agents, check: x}", repo, *others)
