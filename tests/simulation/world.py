"""What is one schedule? A fleet drawn from a seed, faults for a while, then calm, in which everything has to come to rest."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from dataclasses import replace

from claude_conductor import ids
from claude_conductor.ids import DEFAULT_TENANT
from claude_conductor.v1 import message_pb2
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.domain.message import State
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.subscription_store import Subscription
from controlplane.service.letters import Wish
from tests.simulation.agents import AgentProcess, Script
from tests.simulation.checker import broken
from tests.simulation.history import History, JournalLost, Letter, Redriving
from tests.simulation.plan import TOPIC, draw, draw_more
from tests.simulation.plane import Disk, Plane
from tests.simulation.processes import EPOCH, Fate, SeededMint, VirtualClock, task_factory
from tests.simulation.slot import Slot, new_disk
from tests.simulation.virtual_loop import Stuck, VirtualLoop
from tests.simulation.wire import Network

CALM_SECONDS = 120.0
"""How long everything may take to come to rest once nothing fails any more."""
SETTLE_SECONDS = 0.2
NOTICED_LATE = 3
"""Times a connection may end after everything came to rest: one for each end of it, and one more."""
TENANT = "default"


class World:
    """Everything of one schedule."""

    def __init__(self, seed: int, slot_type: type[Slot], store_type: type[MemoryMailboxStore]) -> None:
        self._fate = Fate(seed)
        self._plan = draw(self._fate)
        self._more, self._aside = draw_more(seed)
        self._slot_type = slot_type
        self._clock = VirtualClock()
        self._mint = SeededMint(self._fate, self._clock)
        self._network = Network(self._fate, self._plan.cutting)
        limits = MailboxLimits(messages=self._plan.mailbox_messages, attempts=self._plan.attempts)
        self._disk = Disk.empty(self._clock, store_type(limits))
        self._names = [f"agent-{number}" for number in range(1, self._plan.agents + 1)]
        self._disks = {name: new_disk() for name in self._names}
        self._lives: Counter[str] = Counter()
        self._slots: dict[str, Slot] = {}
        self._agents: dict[str, AgentProcess] = {}
        self._scripts: dict[str, Script] = {}
        self._readers: dict[str, set[str]] = {}
        self._plane: Plane = self._new_plane()
        self.history = History(small_mailboxes=self._plan.mailbox_messages < 10, max_attempts=self._plan.attempts)

    # --- who is there

    def _new_plane(self) -> Plane:
        self._lives["plane"] += 1
        failing = self._plan.store_failing
        return Plane(
            self._lives["plane"],
            self._disk,
            self._network,
            self._fate,
            self._clock,
            self._mint,
            failing,
            self._plan.bounds,
            self._plan.attempts,
        )

    async def _begin_slot(self, name: str) -> None:
        plan = self._plan
        self._lives[name] += 1
        slot = self._slot_type(
            name, self._lives[name], self._disks[name], self._network, self._fate, plan.inbox, plan.journal_failing
        )
        self._slots[name] = slot
        slot.start()
        await self._begin_agent(name)

    async def _begin_agent(self, name: str) -> None:
        slot = self._slots[name]
        while slot.process.alive:
            beginning = slot.process.start(slot.inbox.new_process(name), "new process")
            await asyncio.wait({beginning})
            if not beginning.cancelled() and beginning.exception() is None:
                break
            await asyncio.sleep(0.05)  # the keeper tries again, too
        present = self._agents.get(name)
        if self._slots[name] is not slot or not slot.process.alive or (present is not None and present.process.alive):
            return
        agent = AgentProcess(self._scripts[name], slot.process, slot.sender, slot.inbox, self.history, self._fate)
        self._agents[name] = agent
        agent.start()

    def _write_scripts(self) -> None:
        fate, plan = self._fate, self._plan
        for name in self._names:
            letters = []
            for _ in range(plan.letters):
                recipient = fate.random.choice([other for other in self._names if other != name or fate.chance(0.1)] or [name])
                durable = not fate.chance(plan.ephemeral)
                life = int(fate.random.random() * 3000) if durable and fate.chance(plan.hurried) else 0
                expire = int((EPOCH + asyncio.get_running_loop().time()) * 1000) + life if life else 0
                letter = Letter(self._mint.raw(), name, recipient, durable, 0, expire_time_ms=expire)
                letters.append(self._perhaps_more(letter))
            self._scripts[name] = Script(name, letters, plan.width)

    def _perhaps_more(self, letter: Letter) -> Letter:
        """Return the letter, or what becomes of it where there are messages to many, and questions."""
        if self._aside.random() < self._more.shared:
            recipient = self._aside.choice((TOPIC, "broadcast"))
            return replace(letter, recipient=recipient, to=tuple(sorted(self._readers[recipient] - {letter.sender})))
        asked = letter.durable and letter.recipient != letter.sender and self._aside.random() < self._more.asked
        return replace(letter, asked=asked)

    async def _subscribe(self) -> None:
        subscribed = {name for name in self._names if self._aside.random() < self._more.subscribing}
        self._readers = {TOPIC: subscribed, "broadcast": set(self._names)}
        for name in subscribed:
            await self._disk.subscriptions.add(TENANT, Subscription(TOPIC.removeprefix("topic/"), name))

    # --- what happens

    async def run(self) -> History:
        """Play the schedule to its end."""
        fate = self._fate
        fate.faults = False  # until everybody has been there once, so that everybody is known
        self._plane.start()
        for name in self._names:
            self._scripts[name] = Script(name, [], 1)
            await self._begin_slot(name)
        await self._until(lambda: all(self._connected(name) for name in self._names), "everybody connects")
        await self._subscribe()
        self._write_scripts()
        for name in self._names:
            self._agents[name].process.kill()
            await self._begin_agent(name)
        fate.faults = True
        await self._faults()
        fate.faults = False
        rests = await self._comes_to_rest()
        if rests and self._more.redrives:
            await self._redrive(calm=True)
            rests = await self._comes_to_rest()
        if rests:
            self._check_credits()
        self._collect()
        self.history.records = list(await self._disk.mailboxes.list(TENANT, "", frozenset(), b"", 1_000_000))
        await self._collect_notices()
        self._end()
        return self.history

    async def _collect_notices(self) -> None:
        for record in self.history.records:
            if record.sender != "conductor":
                continue
            for _, content in await self._disk.mailboxes.find(TENANT, record.message_id):
                for envelope in message_pb2.MessageFrame.FromString(content).envelopes:
                    pair = (ids.message_bytes(envelope.id), ids.message_bytes(envelope.correlation_id))
                    if pair[0] == record.message_id:
                        self.history.notices.append(pair)

    async def _faults(self) -> None:
        plan, random = self._plan, self._fate.random
        blows = [self._kill_plane] * plan.plane_kills
        blows += [self._kill_slot] * plan.sidecar_kills + [self._kill_agent] * plan.agent_kills
        random.shuffle(blows)
        blows += [self._redrive] * self._more.redrives
        async with asyncio.TaskGroup() as group:
            for blow in blows:
                at = (self._aside if blow == self._redrive else random).random() * plan.seconds
                group.create_task(self._at(at, blow))
            await asyncio.sleep(plan.seconds)

    async def _at(self, seconds: float, blow) -> None:
        await asyncio.sleep(seconds)
        await blow()

    async def _kill_plane(self) -> None:
        self._note_crash("the control plane", self._plane.failure)
        self._plane.kill()
        await self._fate.pause(0.3)
        if not self._plane.process.alive:
            self._plane = self._new_plane()
            self._plane.start()

    async def _kill_slot(self) -> None:
        name = self._fate.random.choice(self._names)
        slot = self._slots[name]
        if not slot.process.alive:
            return
        self._note_crash(slot.process.name, slot.failure)
        slot.process.kill()
        self._end_agent(name)
        if self._plan.losing_journals and self._fate.chance(0.5):
            self._disks[name] = new_disk()
            self.history.add(JournalLost(name))
        await self._fate.pause(0.3)
        await self._begin_slot(name)

    async def _kill_agent(self) -> None:
        name = self._fate.random.choice(self._names)
        if not self._agents[name].process.alive or not self._slots[name].process.alive:
            return
        self._end_agent(name)
        await self._fate.pause(0.05)
        if self._slots[name].process.alive and not self._agents[name].process.alive:
            await self._begin_agent(name)

    async def _redrive(self, *, calm: bool = False) -> None:
        """Send every dead letter again, as the operator does."""
        plane = self._plane
        dead = await self._disk.mailboxes.list(TENANT, "", frozenset({State.DEAD}), b"", 1000)
        if not dead or plane.letters is None or not plane.process.alive:
            return
        for key in dict.fromkeys(record.message_id for record in dead):
            self.history.add(Redriving(key))
        wish = Wish(DEFAULT_TENANT, list(dict.fromkeys(record.message_id for record in dead)))
        redriving = plane.process.start(plane.letters.redrive(wish), "redrive")
        await asyncio.wait({redriving})
        if not redriving.cancelled() and redriving.exception() is None and calm:
            self.history.revived = {(fate.message_id, fate.mailbox) for fate in redriving.result() if fate.error is None}

    def _end_agent(self, name: str) -> None:
        self._note_crash(self._agents[name].process.name, self._agents[name].failure)
        self._agents[name].process.kill()

    # --- how it ends

    async def _until(self, condition, what: str, why_not=lambda: "") -> bool:
        try:
            async with asyncio.timeout(CALM_SECONDS):
                while not condition():  # noqa: ASYNC110 - virtual time costs nothing
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self.history.troubles.append(f"stuck: {what} did not happen in {CALM_SECONDS:g} s. {why_not()}")
            return False
        return True

    def _connected(self, name: str) -> bool:
        return self._slots[name].outbox.connected and self._plane.registry is not None and self._plane.link_of(name) is not None

    def _open_messages(self) -> list[tuple[str, int]]:
        store = self._disk.mailboxes
        return [(name, box.messages) for name, box in store._mailboxes.items() if box.messages]

    def _why_not(self) -> str:
        waiting: list[str] = [f"{count} open in {name}" for name, count in self._open_messages()]
        for name in self._names:
            slot, agent = self._slots[name], self._agents[name]
            if not self._connected(name):
                waiting.append(f"{name} is not connected")
            if not self._scripts[name].done:
                waiting.append(f"{name} has not sent everything")
            if not slot.outbox.drained.is_set():
                waiting.append(f"{name} has {len(slot.outbox._entries)} frames to send")
            if agent.unacked:
                waiting.append(f"{name} has {len(agent.unacked)} to acknowledge")
            held = sum(len(box) for box in slot.inbox._held._boxes.values())
            if held:
                waiting.append(f"{name} has {held} in its inbox")
        return ", ".join(waiting)

    async def _comes_to_rest(self) -> bool:
        """Wait until nothing is left to do, and see that it stays so. A cut just before the end may be noticed just after it."""
        for _ in range(NOTICED_LATE):
            if not await self._until(self._at_rest, "everything comes to rest", self._why_not):
                return False
            await asyncio.sleep(SETTLE_SECONDS)
            if self._at_rest():
                return True
        self.history.troubles.append(f"it came to rest and went on: {self._why_not()}")
        return False

    def _at_rest(self) -> bool:
        return not self._why_not()

    def _check_credits(self) -> None:
        for name in self._names:
            slot, link = self._slots[name], self._plane.link_of(name)
            assert link is not None
            if link._credit is not None and list(link._credit) != slot.inbox._granted:
                self.history.troubles.append(
                    f"credit leak: the control plane thinks it may send {name} {link._credit}, granted are {slot.inbox._granted}"
                )
            allowance = slot.sender._allowance
            for have, full, unreturned in (
                (allowance.messages, self._plan.bounds.ahead_messages, link._used[0]),
                (allowance.bytes, self._plan.bounds.ahead_bytes, link._used[1]),
            ):
                if have is None or not full - unreturned <= have <= full:
                    self.history.troubles.append(f"credit leak: {name} may send {have} of {full} with {unreturned} not returned")

    def _note_crash(self, who: str, failure: BaseException | None) -> None:
        if failure is not None:
            self.history.troubles.append(f"crash of {who}: {failure!r}")

    def _collect(self) -> None:
        self._note_crash("the control plane", self._plane.failure)
        for name in self._names:
            self._note_crash(self._slots[name].process.name, self._slots[name].failure)
            self._note_crash(self._agents[name].process.name, self._agents[name].failure)
        self.history.troubles += self._network.bugs

    def _end(self) -> None:
        self._plane.kill()
        for name in self._names:
            self._agents[name].process.kill()
            self._slots[name].process.kill()


def play(
    seed: int, slot_type: type[Slot] = Slot, store_type: type[MemoryMailboxStore] = MemoryMailboxStore
) -> tuple[History, list[str]]:
    """Play one schedule; return what happened and which promises it broke."""
    loop = VirtualLoop()
    loop.set_task_factory(task_factory)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    world = None
    try:
        asyncio.set_event_loop(None)
        main = loop.create_task(_played(seed, slot_type, store_type))
        try:
            history = loop.run_until_complete(main)
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(_gathered(left))
        except Stuck as stuck:
            history = History(troubles=[f"stuck: {stuck}"])
    finally:
        logging.disable(level)
        del world
        loop.close()
    if loop.complaints:
        history.troubles += loop.complaints
    return history, broken(history)


async def _played(seed: int, slot_type: type[Slot], store_type: type[MemoryMailboxStore]) -> History:
    return await World(seed, slot_type, store_type).run()


async def _gathered(tasks: set[asyncio.Task[object]]) -> None:
    for _ in range(20):
        if all(task.done() for task in tasks):
            return
        await asyncio.sleep(0)


def collect_garbage() -> None:
    """Between schedules: what they leave is cyclic."""
    gc.collect()
