"""What an agent leaves behind cannot mislead the sidecar that reads it (cases 7, 8, 16, 20). Controls: a naive reader."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_sidecar.run.files import beneath
from agent_sidecar.run.files.changes import CONTENT_BYTES, Collected, collect
from agent_sidecar.run.files.git import Git
from agent_sidecar.run.files.source import Filled, fill
from agent_sidecar.run.task import GitSource
from claude_conductor.errors import WorkspaceError
from tests.fakes.repository import git as run

SECRET = b"the sidecar's own secret"


@pytest.fixture
def git(tmp_path: Path) -> Git:
    runs = Git(tmp_path / "own/gitconfig", os.environ["PATH"])
    runs.prepare()
    return runs


@pytest.fixture
async def filled(tmp_path: Path, git: Git) -> Filled:
    place = tmp_path / "repository"
    place.mkdir()
    run(place, "init", "-q", "-b", "main")
    (place / "result.txt").write_text("before\n")
    (place / "sub").mkdir()
    (place / "sub/inner").write_text("before\n")
    run(place, "add", "-A")
    run(place, "commit", "-qm", "first")
    (tmp_path / "secret").write_bytes(SECRET)
    return await fill(GitSource(str(place)), tmp_path / "ws", tmp_path / "own/store", git, "agent-1")


async def gather(filled: Filled, git: Git, tmp_path: Path) -> tuple[Collected, bytes]:
    assert filled.base is not None
    found = await collect(tmp_path / "ws", filled.base, tmp_path / "own/patches", git)
    return found, found.patch.path.read_bytes() if found.patch is not None else b""


@pytest.mark.parametrize("where", ["absolute", "relative", "proc"])
async def test_a_result_that_is_a_link_is_taken_as_the_link(filled: Filled, git: Git, tmp_path: Path, where: str):
    result, secret = tmp_path / "ws/result.txt", tmp_path / "secret"
    leads = {"absolute": str(secret), "relative": "../secret", "proc": f"/proc/self/root{secret}"}[where]
    result.unlink()
    result.symlink_to(leads)
    assert result.read_bytes() == SECRET, "the control: who follows it reads the secret"
    _, patch = await gather(filled, git, tmp_path)
    assert leads.encode() in patch
    assert SECRET not in patch


@contextlib.contextmanager
def swapping(place: Path, secret: Path) -> Iterator[None]:
    """Make the folder `sub` a link to where the secret is, and back, without pause."""
    stop, other = threading.Event(), place / "link"
    other.symlink_to(secret.parent)

    def swap() -> None:
        held, shown = place / "held", place / "sub"
        while not stop.is_set():
            shown.rename(held)
            other.rename(shown)
            shown.rename(other)
            held.rename(shown)

    thread = threading.Thread(target=swap, name="swapper")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def naively(place: Path) -> bytes:
    """Check, then use."""
    if (place / "sub").is_symlink():
        return b""
    return (place / "sub/secret").read_bytes()


def carefully(place: Path) -> bytes:
    root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with beneath.folder(root, [b"sub"]) as parent:
            descriptor = os.open(b"secret", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()
    finally:
        os.close(root)


def test_a_link_swapped_between_check_and_use_is_not_followed(tmp_path: Path):
    place, secret = tmp_path / "place", tmp_path / "outside/secret"
    (place / "sub").mkdir(parents=True)
    secret.parent.mkdir()
    secret.write_bytes(SECRET)
    (place / "sub/secret").write_bytes(b"the agent's own")
    fooled = careful = 0
    seen: set[bytes] = set()
    deadline = time.monotonic() + 30
    with swapping(place, secret):
        while fooled < 3 or careful < 300:
            assert time.monotonic() < deadline, (fooled, careful)
            with contextlib.suppress(OSError):
                fooled += naively(place) == SECRET  # the control: the race can be won
            with contextlib.suppress(OSError):
                seen.add(carefully(place))
                careful += 1
    assert seen == {b"the agent's own"}


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_a_result_that_never_ends_a_read_is_not_read(filled: Filled, git: Git, tmp_path: Path, kind: str):
    result = tmp_path / "ws/result.txt"
    result.unlink()
    if kind == "pipe":
        os.mkfifo(result)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(result))
    found, patch = await gather(filled, git, tmp_path)
    assert any("'result.txt' is neither file, folder nor link" in each for each in found.warnings)
    assert b"deleted file" in patch


async def test_a_huge_sparse_result_is_refused_before_it_is_read(filled: Filled, git: Git, tmp_path: Path):
    result = tmp_path / "ws/result.txt"
    os.truncate(result, 1 << 42)
    assert result.stat().st_blocks < 1 << 10, "the control: it costs the agent nothing"
    began = time.monotonic()
    with pytest.raises(WorkspaceError):
        await gather(filled, git, tmp_path)
    assert time.monotonic() - began < 10
    assert filled.base is not None
    assert tree_size(filled.base.store) < CONTENT_BYTES


def tree_size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


async def test_a_clone_that_points_to_another_git_folder_is_read_as_before(filled: Filled, git: Git, tmp_path: Path):
    """Case 20: `.git` as a file that names a folder the agent prepared, whose monitor is a program of the agent's."""
    workspace, witness, evil = tmp_path / "ws", tmp_path / "witness", tmp_path / "ws/evil"
    program = workspace / "program"
    program.write_text(f"#!/bin/sh\necho ran >> {witness}\n")
    program.chmod(0o755)
    (workspace / ".git").rename(evil)
    run(workspace, "--git-dir", str(evil), "config", "core.fsmonitor", str(program))
    (workspace / ".git").write_text("gitdir: evil\n")
    (workspace / "result.txt").write_text("after\n")
    run(workspace, "status")
    assert witness.exists(), "the control: git asked in the workspace runs the agent's program"
    witness.unlink()
    _, patch = await gather(filled, git, tmp_path)
    assert b"+after" in patch
    assert not witness.exists()
