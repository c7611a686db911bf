"""A real sidecar process with the fake isolation, started for a test and ended with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agent_sidecar.isolation.interface import Level
from agent_sidecar.settings import Settings
from claude_conductor.settings.handover import to_plain
from claude_conductor.settings.secret import Secret

ROOT = Path(__file__).resolve().parents[2]


def settings(home: Path, **changes: object) -> Settings:
    base = Settings(
        home=home,
        agent_id="agent-1",
        control_plane=f"unix:{home}/run/control.sock",
        token=Secret("sidecar-token"),
        level=Level.STRICT,
        startup_timeout=15.0,
        stop_grace=0.5,
        log_level="debug",
    )
    return replace(base, **changes)


class SidecarProcess:
    """One or more lives of a sidecar."""

    def __init__(self, chosen: Settings, environment: Mapping[str, str] | None = None, module: str = "tests.fakes.sidecar_main"):
        self.settings = chosen
        self._environment = environment or {}
        self._module = module
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        reader, writer = os.pipe()
        os.write(writer, json.dumps(to_plain(self.settings)).encode())
        os.close(writer)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", **self._environment}
        log = (self.settings.home / f"{self.settings.agent_id}.log").open("ab")
        try:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module, "--settings-fd", str(reader)),
                pass_fds=[reader],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        finally:
            os.close(reader)
            log.close()

    async def stop(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    def log(self) -> str:
        return (self.settings.home / f"{self.settings.agent_id}.log").read_text()
