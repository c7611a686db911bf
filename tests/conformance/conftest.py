"""Runners of every language that is here, and a fleet for them to talk to."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.fleet import Fleet
from tests.conformance.runner_process import ROOT, Runner

RunnerOf = Callable[[str], Awaitable[Runner]]
BUILD_SECONDS = 600


@cache
def built(language: str) -> tuple[int, str]:
    """Build what a language needs; returns the exit code of the script and what it said."""
    if language == "python":
        return 0, ""
    done = subprocess.run(
        [str(ROOT / "tools/build_conformance.sh"), language], capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
    )
    return done.returncode, done.stderr.strip()


def need(language: str) -> None:
    """Skip the test, visibly, where a toolchain is missing; fail where the sources do not build."""
    code, said = built(language)
    if code == 1:
        pytest.skip(f"no {language} here: {said}")
    assert code == 0, said


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fleet() -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="cc-") as place:  # pytest's own paths are too long for Unix sockets
        async with Fleet(Path(place) / "home") as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def grpcio_fleet() -> AsyncIterator[Fleet]:
    """The same, with a control plane that grpcio's server serves."""
    with tempfile.TemporaryDirectory(prefix="cc-") as place:
        async with Fleet(Path(place) / "home", grpc_server="grpcio") as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def runner_of() -> AsyncIterator[RunnerOf]:
    running: dict[str, Runner] = {}

    async def start(language: str) -> Runner:
        need(language)
        if language not in running:
            running[language] = await Runner(language).start()
        return running[language]

    yield start
    for runner in running.values():
        await runner.stop()
