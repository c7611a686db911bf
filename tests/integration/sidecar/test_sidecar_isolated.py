"""The sidecar as it is shipped, with the real isolation: what an agent sees, and that nothing is left of it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from claude_conductor.v1 import agent_pb2, task_pb2
from tests.fakes.repository import apply, make_repository
from tests.fakes.scripted_control_plane import FakeControlPlane
from tests.fakes.sidecar_process import ROOT, SidecarProcess, settings
from tests.fakes.waiting import eventually


async def start(plane: FakeControlPlane, home: Path, **changes: object) -> SidecarProcess:
    sidecar = SidecarProcess(settings(home, **changes), module="agent_sidecar")
    await sidecar.start()
    await plane.until(lambda: plane.hellos or (sidecar.process is not None and sidecar.process.returncode is not None), 30)
    if plane.hellos[0].strongest_level != agent_pb2.ISOLATION_LEVEL_STRICT:
        await sidecar.stop(signal.SIGKILL)
        pytest.skip("this host cannot isolate strictly; `conductor doctor` names what is missing")
    return sidecar


async def test_a_strictly_isolated_agent_changes_a_clone_and_the_patch_comes_back(plane: FakeControlPlane, tmp_path: Path):
    make_repository(tmp_path / "repository")
    sidecar = await start(plane, tmp_path)
    try:
        line = "id -u; echo two >> a.txt; git commit -qam mine; ls -A /workspace; test -S $CONDUCTOR_SOCKET && echo door"
        source = {"git": {"repository": str(tmp_path / "repository")}}
        plane.assign("task_1", task_pb2.TaskSpec(driver="command", command=["/bin/sh", "-c", line], workspace=source))
        result = await plane.result(seconds=30)
        assert not result.HasField("failure"), (result, sidecar.log())
        assert result.summary.split() == ["1000", ".git", "a.txt", "door"]
        assert "seccomp" in result.isolation.mechanisms
        apply(tmp_path / "repository", plane.artefacts[result.patch_artefact_id])
        assert names(tmp_path / "workspace/agent-1") == []
    finally:
        assert await sidecar.stop() == 0, sidecar.log()


async def test_an_isolated_agent_reaches_its_sidecar_and_nothing_else(plane: FakeControlPlane, tmp_path: Path):
    toolchains = tuple(dict.fromkeys((ROOT, Path(sys.prefix), Path(sys.base_prefix))))
    sidecar = await start(plane, tmp_path, agent_toolchains=toolchains)
    try:
        spec = task_pb2.TaskSpec(
            driver="command",
            command=[sys.executable, "-m", "tests.fakes.agent_program"],
            prompt='[["GetSelf", {}], ["Send", {"recipient": "agent-2", "envelope": {}}]]',
            prompt_by="stdin",
            environment={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        plane.assign("task_1", spec)
        result = await plane.result(seconds=30)
        assert not result.HasField("failure"), (result, sidecar.log())
        assert "messageId" in result.summary
        plane.assign("task_2", task_pb2.TaskSpec(driver="scripted", prompt="probe network\nprobe home\n"))
        probes = (await plane.result(2, seconds=30)).summary
        assert "network: unreachable" in probes
        assert "home: hidden" in probes
    finally:
        assert await sidecar.stop() == 0, sidecar.log()


async def test_a_killed_sidecar_takes_its_agent_with_it(plane: FakeControlPlane, tmp_path: Path):
    sidecar = await start(plane, tmp_path)
    plane.assign("task_1", task_pb2.TaskSpec(driver="command", command=["/bin/sh", "-c", "echo up; sleep 300"]))
    await plane.until(plane.output, 30)
    children = descendants(sidecar.process.pid if sidecar.process else 0)
    assert len(children) > 1
    await sidecar.stop(signal.SIGKILL)
    await eventually(lambda: not any(alive(pid) for pid in children))
    await sidecar.start()
    await plane.until(lambda: len(plane.hellos) == 2, 30)
    assert await sidecar.stop() == 0, sidecar.log()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found
