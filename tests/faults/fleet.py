"""A control plane and sidecars with their agents, real processes all of them, for tests that hurt them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from agent_sidecar.isolation.interface import Level
from agent_sidecar.settings import Settings
from claude_conductor.client.call import Caller
from claude_conductor.client.messages import Messages
from claude_conductor.settings.secret import Secret
from claude_conductor.v1.message_pb2 import MessageState
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane, sidecar_token
from tests.fakes.sidecar_process import ROOT, SidecarProcess, settings
from tests.faults.history import Record, Violation, check
from tests.faults.plan import Fault
from tests.faults.watching import Watched

LOOK_SECONDS = 0.05
START_SECONDS = 120.0
OPEN = [MessageState.Value(f"MESSAGE_STATE_{name}") for name in ("ACCEPTED", "AT_SIDECAR", "SEEN")]


class Fleet:
    """One control plane and, for each name, a sidecar with a long-running agent.

    Args:
        home: Short, because sockets lie below it.
        agents: Names.
        reach: To how many others each agent writes.
        count: How many messages each of them gets from it.
        seed: For what the agents do.
    """

    def __init__(self, home: Path, agents: Sequence[str], reach: int, count: int, seed: int) -> None:
        self.agents = agents
        self.expected = {
            (agent, agents[(index + step) % len(agents)]): count
            for index, agent in enumerate(agents)
            for step in range(1, reach + 1)
        }
        self.home = home
        self.watched = Watched(home / "histories")
        self._plane = ControlPlane(home, tuple(agents), log_level="warning")
        self._sidecars = {agent: SidecarProcess(self._settings(agent, count, seed)) for agent in agents}
        self._locks = {target: asyncio.Lock() for target in ("", *agents)}
        self._struck: list[tuple[Fault, float]] = []
        self._caller = Caller(self._plane.address, Secret(OPERATOR_TOKEN))
        self._messages = Messages(self._caller)
        self._began = 0.0

    def _settings(self, agent: str, count: int, seed: int) -> Settings:
        recipients = [recipient for sender, recipient in self.expected if sender == agent]
        plan = json.dumps({"recipients": recipients, "count": count, "seed": seed})
        return settings(
            self.home,
            agent_id=agent,
            token=Secret(sidecar_token(agent)),
            level=Level.MINIMAL,
            agent_command=(sys.executable, "-m", "tests.faults.agent", str(self.watched.folder / agent), plan),
            agent_environment={"PYTHONPATH": str(ROOT)},
            log_level="info",
        )

    async def start(self) -> None:
        """Start everything, and let the agents begin once all of them are known."""
        for agent in self.agents:
            (self.watched.folder / agent).mkdir(parents=True)
        await self._plane.start()
        for sidecar in self._sidecars.values():
            await sidecar.start()
        await self._until(lambda: len(self.watched.ready) == len(self.agents), START_SECONDS, "not every agent started")
        self._began = time.monotonic()
        (self.home / "start").touch()

    async def close(self) -> None:
        """End everything."""
        await self._caller.close()
        for sidecar in self._sidecars.values():
            if sidecar.process is not None:
                await sidecar.stop(signal.SIGKILL)
        await self._plane.close()

    async def run(self, faults: Sequence[Fault], patience: float) -> list[Violation]:
        """Let the agents exchange their messages while the faults happen; return what was violated once no message is open.

        Args:
            faults: In the order they happen.
            patience: Seconds without which there has to be progress, and for the end.
        """
        total = sum(self.expected.values())
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await self._until(lambda at=fault.at: self.watched.accepted >= at * total, patience, f"no traffic for {fault}")
                group.create_task(self._strike(fault), name=str(fault))
        with suppress(TimeoutError):  # the checker tells what is missing
            await self._until(lambda: len(self.watched.done) == len(self.agents), patience, "not everything was accepted")
            await self._settle(patience)
        return check(self.watched.lives(), await self._records(), self.expected)

    async def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something the histories tell, as long as there is progress."""
        deadline, before = time.monotonic() + seconds, -1
        while not condition():
            if self.watched.accepted != before:
                deadline, before = time.monotonic() + seconds, self.watched.accepted
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}; accepted so far: {before}")
            await asyncio.sleep(LOOK_SECONDS)
            self.watched.look()

    async def _settle(self, seconds: float) -> None:
        """Wait until no message is open."""
        async with asyncio.timeout(seconds):
            while await self._messages.list(limit=1, states=OPEN):  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(4 * LOOK_SECONDS)

    async def _records(self) -> list[Record]:
        found = await self._messages.list(limit=10 * sum(self.expected.values()))
        return [
            Record(
                each.message_id,
                each.sender.removeprefix("agent/"),
                each.recipient,
                tuple(MessageState.Name(hop.state).removeprefix("MESSAGE_STATE_") for hop in each.hops),
                each.reason,
            )
            for each in found
        ]

    async def _strike(self, fault: Fault) -> None:
        async with self._locks[fault.agent]:
            began = time.monotonic()
            if fault.action == "freeze":
                await self._freeze(fault)
                began = time.monotonic()
            elif fault.program == "control plane":
                self._plane.kill()
                await self._plane.start()
            elif fault.program == "sidecar":
                await self._sidecars[fault.agent].stop(signal.SIGKILL)
                await self._sidecars[fault.agent].start()
            else:
                self._signal(await self._agent(fault.agent), signal.SIGKILL)
            self._struck.append((fault, began))

    async def _freeze(self, fault: Fault) -> None:
        match fault.program:
            case "control plane":
                assert self._plane.process is not None
                process = os.pidfd_open(self._plane.process.pid)
            case "sidecar":
                sidecar = self._sidecars[fault.agent].process
                assert sidecar is not None
                process = os.pidfd_open(sidecar.pid)
            case _:
                process = await self._agent(fault.agent)
        signal.pidfd_send_signal(process, signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        self._signal(process, signal.SIGCONT)

    async def _agent(self, agent: str) -> int:
        """Return a descriptor of the agent's present process, waiting for it if it is being started."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                pid = self.watched.pids[agent]
                with suppress(ProcessLookupError, FileNotFoundError):
                    process = os.pidfd_open(pid)
                    if str(self.watched.folder / agent).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                        return process
                    os.close(process)
                await asyncio.sleep(LOOK_SECONDS)

    @staticmethod
    def _signal(process: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
        os.close(process)

    def observations(self) -> str:
        """Return how fast messages went through, and how soon after each kind of fault an agent it hit was served again."""
        signs = self.watched.accept_times
        took = max(times[-1] for times in signs.values() if times) - self._began
        samples: dict[str, list[float]] = defaultdict(list)
        for fault, began in self._struck:
            for agent in [fault.agent] if fault.agent else self.agents:
                after = [moment for moment in signs[agent] if moment > began]
                samples[f"{fault.program}, {fault.action}"] += [min(after) - began] if after else []
        told = [f"{self.watched.accepted} messages, {self.watched.accepted / took:.0f}/s with {len(self._struck)} faults"]
        for kind, seconds in sorted(samples.items()):
            if seconds:
                middle, most = statistics.median(seconds), max(seconds)
                told.append(f"{kind}: served again after {middle:.2f} s (median of {len(seconds)}, at most {most:.2f} s)")
        return "\n".join(told)
