"""How does a run go: agents exchange messages, faults happen, and once nothing is open any more the histories are checked?"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress

from claude_conductor.client.call import Caller
from claude_conductor.client.messages import Messages
from claude_conductor.settings.secret import Secret
from claude_conductor.v1.message_pb2 import MessageState
from tests.faults.history import Record, Violation, check
from tests.faults.plan import Fault
from tests.faults.programs import LOOK_SECONDS, Programs, find, strike
from tests.faults.watching import Watched

START_SECONDS = 120.0
OPEN = [MessageState.Value(f"MESSAGE_STATE_{name}") for name in ("ACCEPTED", "AT_SIDECAR", "SEEN")]


class Fleet:
    """Agents that write to each other.

    Args:
        programs: What runs.
        reach: To how many others each agent writes.
        count: How many messages each of them gets from it.
        seed: For what the agents do.
        patience: Seconds without any progress after which a run is given up.
    """

    def __init__(self, programs: Programs, reach: int, count: int, seed: int, patience: float) -> None:
        agents = tuple(programs.folders)
        self.expected = {
            (agent, agents[(index + step) % len(agents)]): count
            for index, agent in enumerate(agents)
            for step in range(1, reach + 1)
        }
        self.agents = agents
        self._programs = programs
        self._seed = seed
        self._patience = patience
        self._watched = Watched(programs.folders)
        self._locks = {target: asyncio.Lock() for target in ("", *agents)}
        self._struck: list[tuple[Fault, float]] = []
        self._began = 0.0

    async def run(self, faults: Sequence[Fault]) -> list[Violation]:
        """Let the agents exchange their messages while the faults happen; return what was violated once no message is open.

        Args:
            faults: In the order they happen.
        """
        await self._programs.start({agent: self._plan(agent) for agent in self.agents})
        await self._until(lambda: len(self._watched.ready) == len(self.agents), START_SECONDS, "not every agent started")
        self._began = time.monotonic()
        for folder in self._programs.folders.values():
            (folder.parent / "start").touch()
        total = sum(self.expected.values())
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                reached = int(fault.at * total)
                await self._until(lambda at=reached: self._watched.accepted >= at, self._patience, f"no traffic for {fault}")
                group.create_task(self._strike(fault), name=str(fault))
        caller = Caller(self._programs.address, Secret(self._programs.token))
        try:
            return await self._check(Messages(caller))
        finally:
            await caller.close()

    def _plan(self, agent: str) -> str:
        recipients = [recipient for sender, recipient in self.expected if sender == agent]
        count = max(self.expected.values())
        return json.dumps({"recipients": recipients, "count": count, "seed": self._seed})

    async def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something the histories tell, as long as there is progress."""
        deadline, before = time.monotonic() + seconds, -1
        while not condition():
            if self._watched.accepted != before:
                deadline, before = time.monotonic() + seconds, self._watched.accepted
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}; accepted so far: {before}")
            await asyncio.sleep(LOOK_SECONDS)
            self._watched.look()

    async def _check(self, messages: Messages) -> list[Violation]:
        with suppress(TimeoutError):  # the checker tells what is missing
            await self._until(lambda: len(self._watched.done) == len(self.agents), self._patience, "not everything was accepted")
            async with asyncio.timeout(self._patience):
                while await messages.list(limit=1, states=OPEN):  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(4 * LOOK_SECONDS)
        records = [
            Record(
                each.message_id,
                each.sender.removeprefix("agent/"),
                each.recipient,
                tuple(MessageState.Name(hop.state).removeprefix("MESSAGE_STATE_") for hop in each.hops),
                each.reason,
            )
            for each in await messages.list(limit=10 * sum(self.expected.values()))
        ]
        return check(self._watched.lives(), records, self.expected)

    async def _strike(self, fault: Fault) -> None:
        async with self._locks[fault.agent]:
            process = await find(self._programs, fault.program, fault.agent)
            began, gone_on = await strike(self._programs, fault, process)
            self._struck.append((fault, gone_on if fault.action == "freeze" else began))

    def observations(self) -> str:
        """Return how fast messages went through, and how soon after each kind of fault an agent it hit was served again."""
        times = self._watched.accept_times
        took = max(each[-1] for each in times.values()) - self._began
        samples: dict[str, list[float]] = defaultdict(list)
        for fault, began in self._struck:
            for agent in [fault.agent] if fault.agent else self.agents:
                after = [moment for moment in times[agent] if moment > began]
                samples[f"{fault.program}, {fault.action}"] += [min(after) - began] if after else []
        accepted, again = self._watched.accepted, self._watched.again
        told = [f"{accepted} messages, {accepted / took:.0f}/s, {again} shown to a second process, {len(self._struck)} faults"]
        for kind, seconds in sorted(samples.items()):
            if seconds:
                middle, most = statistics.median(seconds), max(seconds)
                told.append(f"{kind}: served again after {middle:.2f} s (median of {len(seconds)}, at most {most:.2f} s)")
        return "\n".join(told)
