"""What do agents do? They send numbered messages, fetch, acknowledge in various ways, and die."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

from agent_sidecar.uplink.inbox import Inbox
from agent_sidecar.uplink.sending import Sender
from claude_conductor import ids
from claude_conductor.errors import ConductorError, ControlPlaneUnavailableError
from claude_conductor.v1 import message_pb2
from tests.simulation.history import Acked, Acking, History, Letter, Sending, Sent, Shown
from tests.simulation.processes import EPOCH, Fate, Process


class Script:
    """What one agent has to send, which survives its processes."""

    def __init__(self, agent_id: str, letters: list[Letter], width: int) -> None:
        self.agent_id = agent_id
        self.width = width
        """How many messages it sends before it waits for the answers."""
        self.left = deque(letters)
        self.unknown: list[Letter] = []
        """Sent without an answer; to be sent again, first."""
        self.processes = 0

    @property
    def done(self) -> bool:
        return not self.left and not self.unknown


class AgentProcess:
    """One life of an agent. Its calls are served by tasks of its sidecar, and end some time after it hangs up."""

    def __init__(self, script: Script, sidecar: Process, sender: Sender, inbox: Inbox, history: History, fate: Fate) -> None:
        script.processes += 1
        script.unknown = [letter for letter in script.unknown if letter.durable]  # nobody sends progress chatter twice
        self.number = script.processes
        self.process = Process(f"agent {script.agent_id} {self.number}")
        self._script = script
        self._sidecar = sidecar
        self._sender = sender
        self._inbox = inbox
        self._history = history
        self._fate = fate
        self._calm_acks = fate.chance(0.5)
        """Whether it acknowledges at once, as well-behaved agents do."""
        self.unacked: list[Shown] = []
        self.failure: BaseException | None = None
        self._requests = 0

    def start(self) -> None:
        self.process.start(self._run(), "main")

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send())
                group.create_task(self._read())
        except Exception as failure:  # noqa: BLE001 - of this simulation or an error no agent should see
            self.failure = failure

    async def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        serving = self._sidecar.start(work, "a call")
        try:
            answer = await asyncio.shield(serving)
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(self._fate.delay(), serving.cancel)
            raise
        self.process.gate()
        return answer

    # --- sending

    async def _send(self) -> None:
        script = self._script
        await self._fate.pause(0.05)
        while not script.done:
            window = script.unknown
            while script.left and len(window) < script.width:
                letter = script.left.popleft()
                self._history.add(letter)
                window.append(letter)
            script.unknown = list(window)
            calls = [asyncio.create_task(self._send_one(letter)) for letter in window]
            await asyncio.gather(*calls)
            if script.unknown or self._fate.chance(0.3):
                await asyncio.sleep(self._fate.delay(0.2))

    async def _send_one(self, letter: Letter) -> None:
        wait = 10.0 if self._fate.chance(0.8) else self._fate.delay(0.02)
        answer, reason = "accepted", ""
        self._history.add(Sending(letter.id))
        try:
            await self._call(self._sender.send(*_written(letter), wait))
        except ControlPlaneUnavailableError:
            answer = "unknown"
        except ConductorError as error:
            answer, reason = "refused", error.reason
        self._history.add(Sent(letter.id, answer, reason))
        if answer != "unknown" or not letter.durable:
            self._script.unknown = [other for other in self._script.unknown if other is not letter]

    # --- reading

    async def _read(self) -> None:
        while True:
            most = self._fate.random.choice((1, 2, 100))
            try:
                received = await self._fetch(most)
            except ConductorError:
                await asyncio.sleep(0.05)
                continue
            now_ms = int((EPOCH + asyncio.get_running_loop().time()) * 1000)
            for message in received:
                shown = Shown(
                    id=ids.message_bytes(message.envelope.id),
                    agent=self._script.agent_id,
                    process=self.number,
                    mailbox=message.mailbox,
                    position=message.position,
                    attempt=message.attempt,
                    claimed=message.sender,
                    time_ms=now_ms,
                )
                self._history.add(shown)
                if shown.position:
                    self.unacked.append(shown)
            if self._calm_acks or not self._fate.faults or self._fate.chance(0.4):
                await self._acknowledge()

    async def _fetch(self, most: int) -> Any:
        """Fetch, again with the same id whenever the answer is lost; the call that was left behind may go on for a while."""
        self._requests += 1
        request_id = f"{self.number}-{self._requests}"
        while self._fate.strikes(0.1):
            left = self._sidecar.start(self._inbox.fetch(most, 1.0, request_id), "a call whose answer is lost")
            await self._fate.pause(0.02)
            asyncio.get_running_loop().call_later(self._fate.delay(), left.cancel)
            left.add_done_callback(_nobody_reads)
        return await self._call(self._inbox.fetch(most, 1.0, request_id))

    async def _acknowledge(self) -> None:
        batch = self.unacked
        if not self._calm_acks and self._fate.faults and batch:
            batch = self._fate.random.sample(batch, self._fate.random.randint(1, len(batch)))
        if not batch:
            return
        await self._fate.pause(0.01)
        for shown in batch:
            self._history.add(Acking(shown.id, shown.agent))
        try:
            await self._call(self._inbox.acknowledge(batch[0].mailbox, [shown.position for shown in batch]))
        except ConductorError as error:
            if error.reason == "MESSAGE_NOT_FOUND":
                raise
            await asyncio.sleep(0.05)
            return
        for shown in batch:
            self._history.add(Acked(shown.id, shown.agent))
        self.unacked = [shown for shown in self.unacked if shown not in batch]


def _nobody_reads(left: asyncio.Task[Any]) -> None:
    if not left.cancelled():
        left.exception()


def _written(letter: Letter) -> tuple[message_pb2.FrameHeader, message_pb2.Envelope]:
    header = message_pb2.FrameHeader(
        recipient=letter.recipient,
        type="letter",
        quality=message_pb2.QUALITY_DURABLE if letter.durable else message_pb2.QUALITY_EPHEMERAL,
        message_ids=letter.id,
        expire_time_ms=letter.expire_time_ms,
    )
    return header, message_pb2.Envelope(id=ids.message_id(letter.id), type="letter", data=b"%d" % letter.number)
