"""An agent's door on a real socket, and the tools as the process they are."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.local_service import Door, serving

ROOT = Path(__file__).parents[3]
COMMAND = ("-m", "claude_conductor.agent_tools")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """The door; its socket is in `environment`."""
    made = Door()
    with tempfile.TemporaryDirectory(prefix="cd-") as folder:
        async with serving(Path(folder), made) as made.socket:
            yield made


@pytest.fixture
def environment(door: Door, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONWARNINGS": "error",
        "CONDUCTOR_SOCKET": door.socket,
        "TMPDIR": str(tmp_path),
    }


Run = Callable[..., Awaitable[Done]]


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run `conductor-agent` to its end."""

    async def start(*words: str, stdin: bytes = b"", seconds: float = 40.0, **variables: str) -> Done:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *COMMAND, *words),
            env={**environment, **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    return start
