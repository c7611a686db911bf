"""A control plane process and sidecars of tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.control_plane import ControlPlane, sidecar_token
from tests.fakes.network import Network
from tests.fakes.sidecar import Sidecar

MakeSidecar = Callable[..., Awaitable[Sidecar]]


@pytest.fixture
async def control_plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path / "home")
    await plane.start()
    yield plane
    await plane.close()


@pytest.fixture
async def sidecar(control_plane: ControlPlane) -> AsyncIterator[MakeSidecar]:
    made: list[Sidecar] = []

    async def make(agent_id: str, **options: Any) -> Sidecar:
        credit = options.pop("credit", (100_000, 64 << 20))
        agent = Sidecar(control_plane.address, agent_id, sidecar_token(agent_id), **options)
        made.append(agent)
        return await agent.connect(credit=credit)

    yield make
    for agent in made:
        await agent.disconnect()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane for tests that leave nothing behind in it."""
    plane = ControlPlane(tmp_path_factory.mktemp("shared") / "home")
    asyncio.run(plane.start())
    yield plane
    plane.kill()


@pytest.fixture
async def sidecar_of() -> AsyncIterator[MakeSidecar]:
    """Connects sidecars to any control plane."""
    made: list[Sidecar] = []

    async def make(plane: ControlPlane, agent_id: str, **options: Any) -> Sidecar:
        agent = Sidecar(plane.address, agent_id, sidecar_token(agent_id), **options)
        made.append(agent)
        return await agent.connect()

    yield make
    for agent in made:
        await agent.disconnect()


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    """A control plane that listens on every door."""
    opened = Network.at(tmp_path / "home")
    await opened.plane.start()
    yield opened
    await opened.plane.close()
