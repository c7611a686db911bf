"""A scripted control plane and a real sidecar process that talks to it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.fakes.scripted_control_plane import FakeControlPlane
from tests.fakes.sidecar_process import SidecarProcess, settings


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[FakeControlPlane]:
    fake = FakeControlPlane(tmp_path / "run/control.sock")
    await fake.start()
    yield fake
    await fake.kill()


Start = Callable[..., Awaitable[SidecarProcess]]


@pytest.fixture
async def start_sidecar(plane: FakeControlPlane, tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(environment: dict[str, str] | None = None, **changes: object) -> SidecarProcess:
            running = SidecarProcess(settings(tmp_path, **changes), environment)
            stack.push_async_callback(running.stop, signal.SIGKILL)
            await running.start()
            await plane.connected()
            return running

        yield start


@pytest.fixture
async def sidecar(start_sidecar: Start) -> SidecarProcess:
    return await start_sidecar()
