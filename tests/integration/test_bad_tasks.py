"""A task that cannot be meant is refused with what to do, by every door, and nothing is stored; what nobody can do says why."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import agent_pb2, task_pb2, task_service_pb2
from tests.fakes.control_plane import OPERATOR_TOKEN, ROOT, ControlPlane
from tests.fakes.repository import make_repository

pytestmark = pytest.mark.timeout(300)
NOBODY = "task_" + "0" * 32
MANY = {str(number): "x" for number in range(1000)}


def limits(**asked: Any) -> dict[str, Any]:
    return {"isolation": {"limits": asked}}


CALLS: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown type": ({"type": "refactr"}, "spec.type", "refactor"),
    "unknown dependency": ({"depends_on": [NOBODY]}, "", "tasks list"),
    "itself by a name of its own": ({"depends_on": ["me"]}, "", "tasks list"),
    "unknown parent": ({"parent_task_id": NOBODY}, "", "tasks list"),
    "priority below 1": ({"priority": -1}, "spec.priority", "1 (last) to 10"),
    "priority above 10": ({"priority": 11}, "spec.priority", "1 (last) to 10"),
    "no time at all": ({"timeout": {"seconds": 0}}, "spec.timeout", "above 0"),
    "time below 0": ({"timeout": {"seconds": -1}}, "spec.timeout", "0 or more"),
    "time without end": ({"timeout": {"seconds": 10**11}}, "spec.timeout", "ten years"),
    "attempts below 1": ({"retry": {"max_attempts": -1}}, "spec.retry.max_attempts", "1 to 100"),
    "attempts without end": ({"retry": {"max_attempts": 10**6}}, "spec.retry.max_attempts", "1 to 100"),
    "pause below 0": ({"retry": {"first_delay": {"seconds": -1}}}, "spec.retry.first_delay", "0 or more"),
    "longest pause below 0": ({"retry": {"max_delay": {"nanos": -1}}}, "spec.retry.max_delay", "0 or more"),
    "before 1970": ({"not_before_time": {"seconds": -1}}, "spec.not_before_time", "1970"),
    "turns below 0": ({"max_turns": -1}, "spec.max_turns", "0 (no limit)"),
    "memory below 0": (limits(memory_bytes=-1), "spec.isolation.limits", "0 (the agent's own)"),
    "memory for nothing": (limits(memory_bytes=1), "spec.isolation.limits.memory_bytes", "4m"),
    "processors below 0": (limits(cpus=-1.0), "spec.isolation.limits", "0 (the agent's own)"),
    "processors that are no number": (limits(cpus=math.nan), "spec.isolation.limits.cpus", "finite"),
    "all processors there are": (limits(cpus=math.inf), "spec.isolation.limits.cpus", "finite"),
    "hardly a processor": (limits(cpus=1e-9), "spec.isolation.limits.cpus", "0.01"),
    "processes below 0": (limits(pids=-1), "spec.isolation.limits", "0 (the agent's own)"),
    "a workspace below 0": (limits(workspace_bytes=-1), "spec.isolation.limits", "0 (the agent's own)"),
    "a level nobody knows": ({"isolation": {"level": 99}}, "spec.isolation.level", "isolation level"),
    "a repository without a place": ({"workspace": {"git": {"repository": ""}}}, "spec.workspace", "location"),
    "a repository that is an option": ({"workspace": {"git": {"repository": "--upload-pack=x"}}}, "spec.workspace", "option"),
    "a ref that is an option": ({"workspace": {"git": {"repository": "/r", "ref": "-x"}}}, "spec.workspace", "option"),
    "a folder of nobody knows where": ({"workspace": {"folder": {"path": "a"}}}, "spec.workspace.folder.path", "whole path"),
    "no command": ({"driver": "command"}, "spec.command", "--cmd"),
    "a command without a program": ({"driver": "command", "command": [""]}, "spec.command", "--cmd"),
    "a command with a NUL": ({"driver": "command", "command": ["a\0"]}, "spec.command", "NUL"),
    "a variable without a name": ({"environment": {"": "x"}}, "spec.environment", "name"),
    "a variable with =": ({"environment": {"A=B": "x"}}, "spec.environment", "="),
    "a variable with a NUL": ({"environment": {"A": "\0"}}, "spec.command", "NUL"),
    "a label without a name": ({"labels": {"": "x"}}, "spec.labels", "NAME=VALUE"),
    "too many labels": ({"labels": MANY}, "spec.labels", "at most 100"),
    "too many wanted labels": ({"required_labels": MANY}, "spec.required_labels", "at most 100"),
    "an agent of two lines": ({"agent_id": "a\nb"}, "spec.agent_id", "agents list"),
    "a prompt by post": ({"prompt_by": "post"}, "spec.prompt_by", "stdin"),
    "a prompt too large": ({"prompt": "x" * (256 << 10) + "x"}, "spec.prompt", "at most"),
}
CYCLE = """
tasks:
  - {name: a, prompt: x, after: b}
  - {name: b, prompt: x, after: a}
"""
LINES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "unknown type": (("--type", "refactr"), "", "refactor"),
    "memory below 0": (("--memory", "-1"), "", "512m"),
    "memory beyond all numbers": (("--memory", "9" * 400 + "t"), "", "--memory"),
    "memory beyond what travels": (("--memory", "99999999t"), "", "--memory"),
    "processors that are no number": (("--cpus", "nan"), "", "--cpus"),
    "all processors there are": (("--cpus", "inf"), "", "--cpus"),
    "time that is no number": (("--timeout", "nan"), "", "--timeout"),
    "time below 0": (("--timeout", "-5"), "", "--timeout"),
    "time without end": (("--timeout", "9000000000"), "", "ten years"),
    "priority": (("--priority", "99"), "", "--priority"),
    "attempts": (("--attempts", "-1"), "", "--attempts"),
    "missing repository": (("--repo", "/nonexistent/repo"), "", "/nonexistent/repo"),
    "missing folder": (("--folder", "/nonexistent/folder"), "", "/nonexistent/folder"),
    "both": (("--repo", "{repository}", "--folder", "/"), "", "exclude each other"),
    "agent nobody knows": (("--on", "nobody"), "", "agents list"),
    "tasks that wait for each other": ((), CYCLE, "wait for each other"),
    "a good one and a bad one": ((), "tasks:\n  - {prompt: x}\n  - {prompt: y, priority: 77}\n", "priority"),
    "a good one and one without end": ((), "tasks:\n  - {prompt: x}\n  - {prompt: y, memory: 99999999t}\n", "memory"),
    "not a number": ((), "tasks:\n  - {prompt: y, cpus: .nan}\n", "cpus"),
    "unknown key": ((), "tasks:\n  - {prompt: y, memroy: 1g}\n", "memory"),
}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    started = ControlPlane(tmp_path / "home")
    await started.start()
    token = started.home / "run" / "operator.token"
    token.write_text(OPERATOR_TOKEN)
    token.chmod(0o600)
    yield started
    await started.close()


async def count(plane: ControlPlane) -> int:
    operator = plane.operator()
    return len((await operator.tasks.ListTasks(task_service_pb2.ListTasksRequest(), **operator.call)).tasks)


async def test_every_bad_value_is_refused_by_the_control_plane_with_its_field_and_what_to_do(plane: ControlPlane) -> None:
    operator = plane.operator()
    wrong = []
    for name, (asked, field, word) in CALLS.items():
        spec = task_pb2.TaskSpec(**{"driver": "scripted", "prompt": "x", **asked})
        for call, request in (
            (operator.tasks.SubmitTask, task_service_pb2.SubmitTaskRequest(request_id=name, spec=spec)),
            (operator.tasks.CheckTask, task_service_pb2.CheckTaskRequest(spec=spec)),
        ):
            try:
                await call(request, **operator.call)
                wrong.append(f"{name}: was taken")
            except grpc.aio.AioRpcError as refusal:
                error = from_call(refusal)
                said = f"{error} {error.next_step}"
                known = error.reason in {"INVALID_ARGUMENT", "TASK_NOT_FOUND"}
                if not known or str(error.details.get("field", "")) != field or word not in said:
                    wrong.append(f"{name}: {error.reason}: {said}")
    assert not wrong, "\n".join(wrong)
    assert await count(plane) == 0
    again = await operator.submit("unknown type")  # no key was used up
    assert again.state == task_pb2.TASK_STATE_QUEUED


def conductor(plane: ControlPlane, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "CONDUCTOR_HOME": str(plane.home),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    line = [sys.executable, "-m", "claude_conductor.cli.main", *arguments]
    return subprocess.run(line, env=environment, cwd=place, capture_output=True, text=True, check=False, timeout=60)


async def test_every_bad_value_is_refused_by_the_command_line_and_nothing_is_stored(plane: ControlPlane, tmp_path: Path) -> None:
    wrong: list[str] = []
    repository = tmp_path / "repository"
    make_repository(repository)
    for name, (flags, file, word) in LINES.items():
        path = tmp_path / "tasks.yaml"
        path.write_text(file)
        given = [flag.format(repository=repository) for flag in flags]
        arguments = ("apply", "-f", str(path)) if file else ("run", "x", "--agent", "scripted", *given)
        done = await asyncio.to_thread(conductor, plane, tmp_path, *arguments)
        said = " ".join(done.stderr.split())
        if done.returncode not in {1, 2, 3} or word not in said or "next: " not in said or "itself failed" in said:
            wrong.append(f"{name}: {done.returncode}: {done.stderr[-600:]}")
    assert not wrong, "\n".join(wrong)
    assert await count(plane) == 0


async def test_what_nobody_here_can_do_waits_and_names_what_nobody_has(plane: ControlPlane, tmp_path: Path, sidecar_of) -> None:
    capacity = agent_pb2.ResourceLimits(memory_bytes=1 << 30, cpus=2.0, pids=100, workspace_bytes=1 << 30)
    await sidecar_of(plane, "agent-1", capacity=capacity, strongest_level=agent_pb2.ISOLATION_LEVEL_MODERATE)
    operator = plane.operator()
    for asked, word in (
        ({"driver": "emacs"}, "runs emacs"),
        ({"required_labels": {"gpu": "yes"}}, "the label gpu=yes"),
        ({"isolation": {"level": agent_pb2.ISOLATION_LEVEL_STRICT}}, "isolates at strict"),
        (limits(memory_bytes=(1 << 63) - 1), "of memory"),
        (limits(cpus=64.0), "64 processors"),
        (limits(pids=(1 << 31) - 1), "2147483647 processes"),
        (limits(workspace_bytes=1 << 50), "a workspace of 1024 TiB"),
        ({"agent_id": "agent-2"}, "agent-2"),
    ):
        task = await operator.submit(**asked)
        told = await asyncio.to_thread(conductor, plane, tmp_path, "why", task.task_id)
        assert told.returncode == 0, told.stderr
        assert word in " ".join(told.stdout.split()), told.stdout
    submitted = await asyncio.to_thread(conductor, plane, tmp_path, "run", "x", "--agent", "scripted", "--cpus", "64", "--detach")
    assert "no connected agent has 64 processors to give" in " ".join(submitted.stderr.split())
    fine = await asyncio.to_thread(conductor, plane, tmp_path, "run", "x", "--agent", "scripted", "--detach")
    assert "no connected agent" not in fine.stderr
