"""An agent of the fault suite: sends its share in order, acknowledges what it gets, and writes down both.

    python -m tests.faults.agent FOLDER PLAN

FOLDER has the histories, a file a process, and the agent's id for its name; PLAN is {"recipients": [...], "count": N, "seed": N}.
It begins to send when there is a file FOLDER/../start, and takes up where the process before it stopped: a message whose answer
it does not find is sent again under the same id. A pair has one message under way.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from claude_conductor.rpc import process

process.prepare()

from claude_conductor.client.agent import AgentClient  # noqa: E402 - grpc reads its settings at import
from claude_conductor.clock import SystemClock, SystemMint  # noqa: E402
from claude_conductor.errors import (  # noqa: E402
    ConductorError,
    ControlPlaneUnavailableError,
    DeadlineExceededError,
    Kind,
)
from claude_conductor.v1 import agent_pb2  # noqa: E402
from tests.faults.history import Event, Life, line, parse  # noqa: E402

PAUSE = 0.05
HELD = 0.6
"""How often some of what was fetched is acknowledged later: a process that is killed then leaves something to the next one."""
UNKNOWN = (ControlPlaneUnavailableError, DeadlineExceededError)
"""Failures after which a message may have been accepted all the same."""


class Diary:
    """The file of this process: one write(2) a line, so that a kill loses nothing that was written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        files = sorted(folder.iterdir())
        self.before: Sequence[Life] = [parse(folder.name, path.read_bytes()) for path in files]
        path = folder / f"{len(files):04}.log"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def write(self, kind: str, *ids: str, peer: str = "", number: int = 0, attempt: int = 0, note: str = "") -> None:
        os.write(self._file, line(Event(time.monotonic(), kind, ids, peer, number, attempt, note)))


def left_off(before: Sequence[Life]) -> dict[str, tuple[int, str]]:
    """Return per recipient the number of the last message sent, and its id if its answer is not known."""
    last: dict[str, tuple[int, str]] = {}
    answered = {message for life in before for event in life.events if event.kind == "accepted" for message in event.ids}
    for life in before:
        for event in life.events:
            if event.kind == "sending":
                last[event.peer] = (event.number, "" if event.ids[0] in answered else event.ids[0])
    return last


async def send_all(agent: AgentClient, diary: Diary, recipient: str, count: int) -> None:
    number, unanswered = left_off(diary.before).get(recipient, (0, ""))
    if unanswered:
        await send(agent, diary, recipient, number, unanswered)
    mint = SystemMint(SystemClock())
    for following in range(number + 1, count + 1):
        await send(agent, diary, recipient, following, mint("msg_"))


async def send(agent: AgentClient, diary: Diary, recipient: str, number: int, message_id: str) -> None:
    """Send one message until it is accepted, each time under the same id."""
    diary.write("sending", message_id, peer=recipient, number=number)
    while True:
        try:
            await agent.send(recipient, json.dumps(number).encode(), type="fault_suite", message_id=message_id)
        except UNKNOWN as error:
            diary.write("unknown", message_id, note=error.reason)
        except ConductorError as error:
            diary.write("refused", message_id, note=error.reason)
            if error.kind is not Kind.RESOURCE_EXHAUSTED and error.kind is not Kind.UNAVAILABLE:
                raise
        else:
            diary.write("accepted", message_id)
            return
        await asyncio.sleep(PAUSE)


async def receive_all(agent: AgentClient, diary: Diary, chance: random.Random) -> None:
    """Fetch and acknowledge for ever; now and then the acknowledgement of some waits until later ones are there."""
    waiting: list[tuple[int, str]] = []
    while True:
        try:
            found = await agent.fetch(limit=50, wait=0.2 if waiting else 5.0)
        except ConductorError as error:
            diary.write("failed", peer="fetch", note=error.reason)
            await asyncio.sleep(PAUSE)
            continue
        for message in found:
            sender = message.sender.removeprefix("agent/")
            kind, number = ("notice", 0) if sender == "conductor" else ("seen", int(json.loads(message.envelope.data)))
            diary.write(kind, message.envelope.id, peer=sender, number=number, attempt=message.attempt)
            waiting.append((message.position, message.envelope.id))
        held = chance.randrange(len(waiting) + 1) if found and chance.random() < HELD else 0
        now, waiting = waiting[held:], waiting[:held]
        if now and not await acknowledge(agent, diary, now):
            waiting += now


async def acknowledge(agent: AgentClient, diary: Diary, messages: Sequence[tuple[int, str]]) -> bool:
    ids = [message_id for _, message_id in messages]
    diary.write("acking", *ids)
    try:
        await agent.acknowledge([position for position, _ in messages])
    except ConductorError as error:
        diary.write("failed", peer="acknowledge", note=error.reason)
        await asyncio.sleep(PAUSE)
        return False
    diary.write("acked", *ids)
    return True


async def until_all_are_there(agent: AgentClient, diary: Diary, own: str, start: Path) -> None:
    """Wait until the control plane knows this agent, then for the word that it knows every other one."""
    while own not in [each.agent_id for each in await peers(agent)]:  # noqa: ASYNC110 - nobody announces it to agents
        await asyncio.sleep(PAUSE)
    diary.write("ready")
    while not start.exists():  # noqa: ASYNC110 - a file announces nothing
        await asyncio.sleep(PAUSE)


async def peers(agent: AgentClient) -> Sequence[agent_pb2.Agent]:
    try:
        return await agent.peers()
    except ConductorError:
        return ()


async def main(folder: Path, recipients: Sequence[str], count: int, seed: int) -> None:
    diary = Diary(folder)
    diary.write("began", note=str(os.getpid()))
    async with AgentClient.connect() as agent, asyncio.TaskGroup() as group:
        receiving = receive_all(agent, diary, random.Random(f"{seed} {folder.name} {len(diary.before)}"))
        group.create_task(receiving, name="receive")
        await until_all_are_there(agent, diary, folder.name, folder.parent / "start")
        lanes = [group.create_task(send_all(agent, diary, each, count), name=f"to {each}") for each in recipients]
        await asyncio.wait(lanes)
        diary.write("done")


def end_with_parent() -> None:
    """End when the sidecar does, as in a real sandbox: the fake isolation has no kernel mechanism for it."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG (prctl(2))


if __name__ == "__main__":
    end_with_parent()
    plan = json.loads(sys.argv[2])
    process.run(main(Path(sys.argv[1]), plan["recipients"], plan["count"], plan["seed"]))
