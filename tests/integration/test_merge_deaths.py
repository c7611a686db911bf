"""A driver of merges that dies anywhere: the next one ends up with the same branch and the same records."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.merging import Handed, handed_in
from tests.fakes.repository import git, make_repository
from tests.unit.cli.test_merge_driver import drive, files, no_more_than_one_of_left_and_right

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    make_repository(tmp_path / "repo")
    return tmp_path / "repo"


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
