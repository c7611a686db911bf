"""What set-up commands made: kept as copies, bounded, and never restored in part or through a link."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from agent_sidecar.isolation.interface import Level
from agent_sidecar.run.files.setup_cache import SetupCache, digest, name_of, there
from agent_sidecar.run.task import Assignment, FolderSource, GitSource, Lease, SetupOrder
from claude_conductor.clock import SystemClock
from claude_conductor.errors import WorkspaceError

ORDER = SetupOrder(("make", "deps"), cache_files=("x.lock",), keep=(".venv",))
TASK = Assignment(Lease("task_1", 1, 1), "task/task_1", tenant_id="a", source=GitSource("/repo"))


def cache(tmp_path: Path, bound: int = 1 << 20) -> SetupCache:
    return SetupCache(tmp_path / "setups", bound, SystemClock())


def made(tmp_path: Path, name: str = "one", size: int = 10) -> Path:
    workspace = tmp_path / name
    (workspace / ".venv/bin").mkdir(parents=True)
    (workspace / ".venv/bin/tool").write_bytes(b"x" * size)
    return workspace


def named(task: Assignment = TASK, order: SetupOrder = ORDER, found: str = "d", tools: Path = Path("/t")) -> str:
    return name_of(task, order, [found], [tools], Level.STRICT)


def test_an_entry_is_another_wherever_something_differs_that_decides_what_is_made():
    names = {
        named(),
        named(replace(TASK, tenant_id="b")),
        named(replace(TASK, source=GitSource("/other"))),
        named(replace(TASK, source=FolderSource(Path("/repo")))),
        named(replace(TASK, environment={"PATH": "/evil"})),
        named(replace(TASK, driver="claude_code")),
        named(order=replace(ORDER, command=("make",))),
        named(order=replace(ORDER, keep=("node_modules",))),
        named(found="e"),
        named(tools=Path("/u")),
        name_of(TASK, ORDER, ["d"], [Path("/t")], Level.MODERATE),
    }
    assert len(names) == 11
    assert named(replace(TASK, lease=Lease("task_2", 1, 2), prompt="other", source=GitSource("/repo", "branch"))) == named()


async def test_what_is_restored_is_a_copy(tmp_path: Path):
    kept = cache(tmp_path)
    assert await kept.store("a", made(tmp_path), [".venv", "node_modules"]) == ""
    for name in ("two", "three"):
        workspace = tmp_path / name
        workspace.mkdir()
        assert await kept.restore("a", workspace) == (".venv",)
        tool = workspace / ".venv/bin/tool"
        assert tool.read_bytes() == b"x" * 10
        tool.write_bytes(b"evil")
    assert await kept.restore("b", tmp_path) is None


async def test_an_entry_that_lost_something_is_dropped_and_nothing_of_it_stays(tmp_path: Path):
    kept = cache(tmp_path)
    await kept.store("a", made(tmp_path), [".venv"])
    (tmp_path / "setups/a/0/bin/tool").write_bytes(b"")  # as after a power cut
    workspace = tmp_path / "two"
    workspace.mkdir()
    assert await kept.restore("a", workspace) is None
    assert list(workspace.iterdir()) == []
    assert list((tmp_path / "setups").iterdir()) == []


async def test_the_entry_used_longest_ago_makes_room(tmp_path: Path):
    kept = cache(tmp_path, bound=1000)
    for number, name in enumerate(("a", "b", "c")):
        workspace = made(tmp_path, f"ws-{name}", 300)
        await kept.store(name, workspace, [".venv"])
        os.utime(tmp_path / "setups" / name, (number, number))
    (tmp_path / "used").mkdir()
    assert await kept.restore("a", tmp_path / "used")
    await kept.store("d", made(tmp_path, "ws-d", 300), [".venv"])
    assert {each.name for each in (tmp_path / "setups").iterdir()} == {"a", "c", "d"}
    assert "storage.setup_cache_size" in await kept.store("e", made(tmp_path, "ws-e", 2000), [".venv"])


async def test_no_special_file_or_permission_is_kept_and_links_stay_links(tmp_path: Path):
    workspace = made(tmp_path)
    (workspace / ".venv/bin/tool").chmod(0o4755)
    os.mkfifo(workspace / ".venv/pipe")
    (workspace / ".venv/out").symlink_to("/etc/passwd")
    kept = cache(tmp_path)
    assert await kept.store("a", workspace, [".venv"]) == ""
    assert stat.S_IMODE((tmp_path / "setups/a/0/bin/tool").stat().st_mode) == 0o755
    assert not (tmp_path / "setups/a/0/pipe").exists()
    assert (tmp_path / "setups/a/0/out").is_symlink()


async def test_a_link_is_neither_kept_nor_followed(tmp_path: Path):
    outside = tmp_path / "outside"
    (outside / "deps").mkdir(parents=True)
    workspace = tmp_path / "ws"
    workspace.mkdir()
    (workspace / "lib").symlink_to(outside)
    (workspace / ".venv").symlink_to(outside)
    (workspace / "x.lock").symlink_to(outside / "secret")
    kept = cache(tmp_path)
    assert "made nothing" in await kept.store("a", workspace, [".venv", "lib/deps"])
    assert there(workspace, "lib/other")
    with pytest.raises(WorkspaceError):
        digest(workspace, "x.lock")
    assert digest(workspace, "missing.lock") == ""
    clean = tmp_path / "clean/lib/deps"
    clean.mkdir(parents=True)
    await kept.store("b", tmp_path / "clean", ["lib/deps"])
    assert await kept.restore("b", workspace) is None  # the link is in the way
    assert list((outside / "deps").iterdir()) == []
