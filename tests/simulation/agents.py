"""What do agents do? They send numbered messages, fetch, acknowledge in various ways, and die."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from agent_sidecar.uplink.inbox import Inbox
from agent_sidecar.uplink.sending import Sender
from claude_conductor import ids
from claude_conductor.errors import ConductorError, ControlPlaneUnavailableError, StoreUnavailableError
from claude_conductor.v1 import message_pb2
from claude_conductor.v1.message_service_pb2 import ReceivedMessage
from tests.simulation.history import Acked, Acking, Asking, History, Letter, Sending, Sent, Shown, Waited
from tests.simulation.processes import EPOCH, Fate, Process

ANSWER_SECONDS = 0.5
"""How long an asker waits; who is asked may be waiting for an answer, too, and sends nothing else meanwhile."""


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
        self.more = asyncio.Event()
        """Set when there is something to send again."""
        self._numbers: Counter[bool] = Counter()
        self._answered: set[bytes] = set()
        self.asked: set[bytes] = set()
        """Questions that some process has asked."""

    def next(self) -> Letter:
        """Return the next letter, numbered as it is begun."""
        letter = self.left.popleft()
        self._numbers[letter.durable] += 1
        return replace(letter, number=self._numbers[letter.durable])

    def answer(self, question: bytes, asker: str) -> None:
        """Answer a question, once, in the order of everything else; the id follows from the question's."""
        if question not in self._answered:
            self._answered.add(question)
            key = question[:-1] + bytes([question[-1] ^ 0xFF])
            self.left.append(Letter(key, self.agent_id, asker, durable=True, number=0, answers=question))
            self.more.set()

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
            serving.add_done_callback(_nobody_reads)
            raise
        self.process.gate()
        return answer

    # --- sending

    async def _send(self) -> None:
        script = self._script
        await self._fate.pause(0.05)
        while True:
            if script.done:
                script.more.clear()
                await script.more.wait()
            window = script.unknown
            while script.left and len(window) < script.width:
                letter = script.next()
                self._history.add(letter)
                window.append(letter)
            script.unknown = list(window)
            calls = [asyncio.create_task(self._send_one(letter)) for letter in window]
            await asyncio.gather(*calls)
            if script.unknown or self._fate.chance(0.3):
                await asyncio.sleep(self._fate.delay(0.2))

    async def _send_one(self, letter: Letter) -> None:
        wait = 10.0 if self._fate.chance(0.8) else self._fate.delay(0.02)
        answer, reason, recipients = "accepted", "", 0
        self._history.add(Sending(letter.id))
        asked_again = letter.id in self._script.asked
        self._script.asked.add(letter.id)
        try:
            recipients, reply = await self._call(self._ask(letter, wait) if letter.asked else self._tell(letter, wait))
            known = {each.id for each in self.unacked} if asked_again else ()  # then an answer that is there comes again
            if reply is not None and ids.message_bytes(reply.envelope.id) not in known:
                self._note(reply, letter.id)
        except ControlPlaneUnavailableError:
            answer = "unknown"
        except ConductorError as error:
            answer, reason = "refused", error.reason
        self._history.add(Sent(letter.id, answer, reason, recipients))
        if answer != "unknown" or not letter.durable:
            self._script.unknown = [other for other in self._script.unknown if other is not letter]

    async def _tell(self, letter: Letter, wait: float) -> tuple[int, None]:
        return await self._sender.send(*_written(letter), wait), None

    async def _ask(self, letter: Letter, wait: float) -> tuple[int, ReceivedMessage | None]:
        """Send a question and wait for its answer, in the sidecar."""
        question, asked = ids.message_id(letter.id), (letter.id, self._script.agent_id, self.number)
        with self._inbox.expecting(question):
            self._history.add(Asking(*asked))
            try:
                recipients = await self._sender.send(*_written(letter), wait)
                with suppress(StoreUnavailableError):
                    return recipients, await self._inbox.reply(question, ANSWER_SECONDS, bounces=True)
                return recipients, None
            finally:
                self._history.add(Waited(*asked))

    # --- reading

    async def _read(self) -> None:
        while True:
            most = self._fate.random.choice((1, 2, 100))
            try:
                received = await self._fetch(most)
            except ConductorError:
                await asyncio.sleep(0.05)
                continue
            for message in received:
                self._note(message)
            if self._calm_acks or not self._fate.faults or self._fate.chance(0.4):
                await self._acknowledge()

    def _note(self, message: ReceivedMessage, reply_to: bytes = b"") -> None:
        key = ids.message_bytes(message.envelope.id)
        shown = Shown(
            id=key,
            agent=self._script.agent_id,
            process=self.number,
            mailbox=message.mailbox,
            position=message.position,
            attempt=message.attempt,
            claimed=message.sender,
            time_ms=int((EPOCH + asyncio.get_running_loop().time()) * 1000),
            reply_to=reply_to,
        )
        self._history.add(shown)
        if shown.position:
            self.unacked.append(shown)
        if message.envelope.type == "question":
            self._script.answer(key, message.sender.removeprefix("agent/"))

    async def _fetch(self, most: int) -> Any:
        """Fetch, again with the same id whenever the answer is lost; the call that was left behind may go on for a while."""
        self._requests += 1
        request_id = f"{self.number}-{self._requests}"
        while self._fate.strikes(0.1):
            left = self._sidecar.start(self._inbox.fetch(most, 1.0, request_id), "a call whose answer is lost")
            left.add_done_callback(_nobody_reads)
            await self._fate.pause(0.02)
            asyncio.get_running_loop().call_later(self._fate.delay(), left.cancel)
        return await self._call(self._inbox.fetch(most, 1.0, request_id))

    async def _acknowledge(self) -> None:
        batch = list(self.unacked)
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
        type="question" if letter.asked else "letter",
        quality=message_pb2.QUALITY_DURABLE if letter.durable else message_pb2.QUALITY_EPHEMERAL,
        message_ids=letter.id,
        expire_time_ms=letter.expire_time_ms,
    )
    envelope = message_pb2.Envelope(id=ids.message_id(letter.id), type=header.type, data=b"%d" % letter.number)
    if letter.answers:
        envelope.correlation_id = ids.message_id(letter.answers)
    return header, envelope
