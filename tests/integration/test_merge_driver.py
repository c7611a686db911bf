"""Patches one after another onto a branch: who lands, who is evicted, and what a death in the middle changes (nothing)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from claude_conductor.cli.integration import Integration
from claude_conductor.cli.merge_driver import CheckUnusableError, Driver
from claude_conductor.cli.merge_queue import Wanted
from claude_conductor.v1 import task_pb2
from tests.fakes.merging import Handed, handed_in
from tests.fakes.repository import git, make_repository

LANDED, EVICTED, NOTHING = task_pb2.LANDING_STATE_LANDED, task_pb2.LANDING_STATE_EVICTED, task_pb2.LANDING_STATE_NOTHING
pytestmark = pytest.mark.timeout(180)
Tasks = list[tuple[task_pb2.Task, bytes]]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    make_repository(tmp_path / "repo")
    return tmp_path / "repo"


def files(**contents: str) -> Callable[[Path], None]:
    def work(clone: Path) -> None:
        for name, text in contents.items():
            (clone / name).write_text(text)

    return work


def no_more_than_one_of_left_and_right(repo: Path) -> Callable[[str], bool]:
    return lambda commit: not {"left", "right"} <= set(git(repo, "ls-tree", "--name-only", commit).split())


def drive(repo: Path, handed: Handed, *named: str, branch: str = "agents") -> Driver:
    return Driver(Integration(str(repo), branch), Wanted(branch, str(repo), named), handed)


def handed(repo: Path) -> Handed:
    """One that lands, one that passes alone, one that fails with that, a conflict, and one that changes nothing new."""
    tasks: Tasks = [
        handed_in(repo, 1, files(b="1\n")),
        handed_in(repo, 2, files(left="")),
        handed_in(repo, 3, files(right="")),
        handed_in(repo, 4, files(b="4\n")),
        handed_in(repo, 5, files(left="")),
        handed_in(repo, 6, files(c="6\n")),
    ]
    return Handed(tasks, no_more_than_one_of_left_and_right(repo))


WANTED = [LANDED, LANDED, EVICTED, EVICTED, NOTHING, LANDED]


async def test_each_lands_is_evicted_with_why_or_has_nothing_to_land(repo: Path) -> None:
    world = handed(repo)
    driver = drive(repo, world)
    await driver.land_all()
    tasks = list(world.all.values())
    assert [task.landing.state for task in tasks] == WANTED
    assert list(driver.tried) == list(world.all)
    assert "fails its check with it: exit code 1" in tasks[2].landing.reason
    assert (tasks[2].landing.output, tasks[2].landing.check_task_id) == ("boom", f"check of {world.checked[2]}")
    assert "conflicts with what has landed before, in b" in tasks[3].landing.reason
    assert "CONFLICT" in tasks[3].landing.output
    assert git(repo, "log", "--format=%s", "main..agents").splitlines() == ["do 6", "do 2", "do 1"]
    assert tasks[5].landing.commit == git(repo, "rev-parse", "agents")
    assert tasks[0].landing.output == ""
    seen = len(world.checked)
    await drive(repo, world).land_all()
    assert len(world.checked) == seen  # nothing is tried twice unasked


class Died(BaseException):
    """The driver is gone, in the middle."""


async def test_wherever_the_driver_dies_the_next_one_ends_up_with_the_same_branch(repo: Path) -> None:
    tasks = [handed_in(repo, 1, files(left="")), handed_in(repo, 2, files(right="")), handed_in(repo, 3, files(c="3\n"))]
    world = Handed(tasks, no_more_than_one_of_left_and_right(repo))
    await drive(repo, world, branch="unbroken").land_all()
    records = [(task.landing.state, task.landing.commit) for task in world.all.values()]
    wanted = git(repo, "rev-parse", "unbroken")
    step = 0
    while True:
        git(repo, "update-ref", "-d", "refs/heads/agents")
        for task in world.all.values():
            task.ClearField("landing")
        count = 0

        def die(name: str, at: int = step) -> None:
            nonlocal count
            del name
            count += 1
            if count == at + 1:
                raise Died

        world.before = die
        try:
            await drive(repo, world).land_all()
        except Died:
            died = True
        else:
            died = False
        world.before = lambda name: None
        await drive(repo, world).land_all()
        assert git(repo, "rev-parse", "agents") == wanted, step
        assert [(task.landing.state, task.landing.commit) for task in world.all.values()] == records, step
        if not died:
            break
        step += 1
    assert step > 14


async def test_a_branch_that_fails_by_itself_evicts_nobody_and_a_patch_may_mend_it(repo: Path) -> None:
    def mended(commit: str) -> bool:
        return "mend" in git(repo, "ls-tree", "--name-only", commit).split()

    world = Handed([handed_in(repo, 1, files(b="1\n")), handed_in(repo, 2, files(mend=""))], mended)
    with pytest.raises(CheckUnusableError, match="without any patch"):
        await drive(repo, world).land_all()
    assert not any(task.HasField("landing") for task in world.all.values())
    first, second = world.all
    await drive(repo, world, second, first).land_all()
    assert [task.landing.state for task in world.all.values()] == [LANDED, LANDED]
    assert git(repo, "log", "--format=%s", "main..agents").splitlines() == ["do 1", "do 2"]


async def test_who_moves_the_branch_meanwhile_is_built_upon(repo: Path) -> None:
    world = Handed([handed_in(repo, 1, files(b="1\n"))], lambda commit: True)
    moves = [git(repo, "commit-tree", "-p", "HEAD", "-m", "somebody else", "HEAD^{tree}")]

    def move(step: str) -> None:
        if step == "checked" and moves:
            git(repo, "branch", "agents", moves.pop())

    world.before = move
    await drive(repo, world).land_all()
    assert git(repo, "log", "--format=%s", "main..agents").splitlines() == ["do 1", "somebody else"]
    assert len(world.checked) == 2


async def test_what_was_taken_back_on_the_branch_lands_again_only_if_it_is_named(repo: Path) -> None:
    world = Handed([handed_in(repo, 1, files(b="1\n"))], lambda commit: True)
    await drive(repo, world).land_all()
    git(repo, "update-ref", "-d", "refs/heads/agents")
    await drive(repo, world).land_all()
    assert git(repo, "branch", "--list", "agents") == ""
    await drive(repo, world, *world.all).land_all()
    assert git(repo, "show", "agents:b") == "1"
