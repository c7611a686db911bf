"""Random overlapping plans through the merge queue: the branch passes its check after every landing.

The check is a program's check in small: every name that is used is defined exactly once. So plans collide in git's eyes (the same
lines), and behind its back (a definition goes while another plan begins to use it, two define the same name).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_conductor.cli.integration import Integration
from claude_conductor.cli.merge_driver import Driver
from claude_conductor.cli.merge_queue import Wanted
from claude_conductor.v1 import task_pb2
from tests.fakes.merging import Handed, handed_in
from tests.fakes.repository import git

pytestmark = pytest.mark.timeout(120)
SEEDS = range(4)
PLANS = 12
FILES = ("a.txt", "b.txt", "c.txt")
NAMES = tuple(f"n{number}" for number in range(18))
LANDED, EVICTED = task_pb2.LANDING_STATE_LANDED, task_pb2.LANDING_STATE_EVICTED


class Died(BaseException):
    """The driver is gone, in the middle."""


def passes(repo: Path, commit: str) -> bool:
    """The check: what is used is defined, and nothing twice."""
    words = [line.split() for line in git(repo, "grep", "-h", "", commit, "--", *FILES).splitlines()]
    defined = [words_of[1] for words_of in words if words_of[0] == "def"]
    used = {words_of[1] for words_of in words if words_of[0] == "use"}
    return used <= set(defined) and len(defined) == len(set(defined))


def begin(repo: Path, draw: random.Random) -> None:
    repo.mkdir()
    defined = draw.sample(NAMES, 9)
    for place, name in enumerate(FILES):
        own = defined[place * 3 : place * 3 + 3]
        lines = [f"def {each}" for each in own] + [f"note {name} {number}" for number in range(4)]
        lines += [f"use {draw.choice(defined)}" for _ in range(2)]
        draw.shuffle(lines)
        (repo / name).write_text("".join(f"{line}\n" for line in lines))
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        git(repo, *words)


def plan(draw: random.Random, number: int) -> Callable[[Path], None]:
    """One agent's work: sound by itself mostly, as it saw the files."""

    def work(clone: Path) -> None:
        for _ in range(draw.randint(1, 2)):
            path = clone / draw.choice(FILES)
            lines = path.read_text().splitlines() if path.exists() else []
            at = draw.randint(0, len(lines))
            kind = draw.choice(("define", "use", "drop", "note", "note", "note", "rename", "new", "remove"))
            if kind == "define":
                lines.insert(at, f"def {draw.choice(NAMES)}")
            elif kind == "use":
                lines.insert(at, f"use {draw.choice(NAMES)}")
            elif kind == "drop" and lines:
                lines.pop(at - 1)
            elif kind == "note" and lines:
                notes = [place for place, line in enumerate(lines) if line.startswith("note")]
                lines[draw.choice(notes or [at - 1])] = f"note by {number}"
            elif kind == "rename":
                old, new = draw.choice(NAMES), draw.choice(NAMES)
                lines = [f"{line.split()[0]} {new}" if line.split()[1:2] == [old] else line for line in lines]
            elif kind == "new":
                (clone / f"new-{draw.randint(0, 3)}").write_text(f"{number}\n")
            elif kind == "remove" and draw.random() < 0.2:
                path.unlink(missing_ok=True)
                continue
            path.write_text("".join(f"{line}\n" for line in lines))

    return work


async def played(place: Path, seed: int, check: Callable[[Path, str], bool]) -> tuple[Path, Handed]:
    """Play a seed: plans, a driver that dies now and then, and somebody else who commits to the branch now and then."""
    draw, repo = random.Random(seed), place / "repo"
    begin(repo, draw)
    world = Handed(
        [handed_in(repo, number, plan(draw, number)) for number in range(1, PLANS + 1)], lambda commit: check(repo, commit)
    )

    def meanwhile(step: str) -> None:
        if draw.random() < 0.04:
            raise Died
        if step == "checked" and draw.random() < 0.1 and git(repo, "branch", "--list", "agents"):
            other = git(repo, "commit-tree", "-p", "agents", "-m", "somebody else", "agents^{tree}")
            git(repo, "update-ref", "refs/heads/agents", other)

    world.before = meanwhile
    for _ in range(1000):
        try:
            await Driver(Integration(str(repo), "agents"), Wanted("agents", str(repo)), world).land_all()
        except Died:
            continue
        return repo, world
    raise AssertionError("it never came to an end")


def broken(repo: Path, world: Handed) -> list[str]:
    """Return what is not as promised, by looking at nothing but the repository and the records."""
    found = []
    history = git(repo, "log", "--reverse", "--format=%H %(trailers:key=Conductor-Task,valueonly,separator=%x20)", "main..agents")
    order = []
    for line in history.splitlines():
        commit, *tasks = line.split()
        order += tasks
        if not passes(repo, commit):
            found.append(f"{commit} does not pass, with {tasks}")
    landed = [task_id for task_id, task in world.all.items() if task.landing.state == LANDED]
    if order != landed:
        found.append(f"on the branch are {order}, said to be are {landed}")
    found += [
        f"{task.task_id} was evicted without a word"
        for task in world.all.values()
        if task.landing.state == EVICTED and not (task.landing.reason and task.landing.output)
    ]
    found += [
        f"{task.task_id} was forgotten"
        for task in world.all.values()
        if not task.HasField("landing") and task.result.patch_artefact_id
    ]
    return found


async def test_the_branch_passes_its_check_after_every_landing(tmp_path: Path) -> None:
    landed, reasons = 0, ""
    for seed in SEEDS:
        (tmp_path / str(seed)).mkdir()
        repo, world = await played(tmp_path / str(seed), seed, passes)
        assert broken(repo, world) == [], seed
        landed += sum(task.landing.state == LANDED for task in world.all.values())
        reasons += " ".join(task.landing.reason for task in world.all.values())
    assert landed > PLANS
    assert reasons.count("conflicts with what has landed") > len(SEEDS)
    assert reasons.count("fails its check with it") > len(SEEDS)


async def test_a_check_that_is_not_asked_would_be_noticed(tmp_path: Path) -> None:
    repo, world = await played(tmp_path, 0, lambda repo, commit: True)
    assert any("does not pass" in each for each in broken(repo, world))
