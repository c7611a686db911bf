"""How is a runner of some language started and spoken to?"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / ".cache" / "conformance"
LANGUAGES = ("python", "node", "go")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "python": (sys.executable, str(ROOT / "tests/conformance/runner_python/runner.py")),
    "node": ("node", str(BUILT / "node/runner.js")),
    "go": (str(BUILT / "go/bin/runner"),),
}
_LINE_BYTES = 64 << 20


class Runner:
    """A process that makes calls. Calls may overlap; answers come by their number."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> Runner:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "CONDUCTOR_PROTOS": str(ROOT / "proto"),
            "CONFORMANCE_PROTOS": str(ROOT / "tests/conformance/wire"),
        }
        self._process = await asyncio.create_subprocess_exec(
            *COMMANDS[self.language],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            limit=_LINE_BYTES,
        )
        self._reader = asyncio.create_task(self._read(), name=f"answers of the {self.language} runner")
        return self

    async def call(self, step: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call and return what came of it: `response`, `raw`, `responses` or `error`."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, **step}).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(step.get("seconds", 10) + 15):
            outcome = await answer
        assert "fault" not in outcome, f"the {self.language} runner: {outcome['fault']}"
        return outcome

    async def freeze(self, seconds: float) -> None:
        """Stop the process as a debugger does, or a scheduler with better things to do, and let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End the process; it ends by itself when its input does."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reader is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            outcome = json.loads(line)
            self._waiting.pop(outcome.pop("id")).set_result(outcome)
        for waiting in self._waiting.values():
            waiting.set_exception(AssertionError(f"the {self.language} runner ended"))
