"""Agents of AutoGen on its distributed runtime, one worker runtime an agent, and the host they meet at.

As its documentation shows: one-way messages are published to a topic the other agent subscribes to, questions are direct messages
(`send_message`), payloads are dataclasses in JSON, the default. It has no way to send several messages together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from autogen_core import AgentId, BaseAgent, MessageContext, TopicId, TypeSubscription, try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost

from bench.ends import parts


@dataclass
class Note:
    """A message."""

    text: str


class Receiver(BaseAgent):
    """Takes what arrives; a question is answered with itself."""

    def __init__(self, arrived: asyncio.Queue[str]) -> None:
        super().__init__("receiver")
        self._arrived = arrived

    async def on_message_impl(self, message: Note, ctx: MessageContext) -> Note | None:
        """Take one message."""
        self._arrived.put_nowait(message.text)
        return message if ctx.is_rpc else None


class Worker:
    """One agent in its own runtime."""

    def __init__(self, runtime: GrpcWorkerAgentRuntime, other: str, *, answers: bool) -> None:
        self._runtime = runtime
        self._other = other
        self._answers = answers
        self.arrived: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, payload: bytes) -> None:
        """See Line; an answer has left already, as the return value of the question."""
        if not self._answers:
            await self._runtime.publish_message(Note(payload.decode("latin-1")), TopicId(self._other, "bench"))

    async def flood(self, payload: bytes, count: int) -> None:
        """See Line."""
        for _ in range(count):
            await self.send(payload)
            await asyncio.sleep(0)  # publish_message leaves the work to a task and never waits

    async def receive(self) -> Sequence[bytes]:
        """See Line."""
        return [(await self.arrived.get()).encode("latin-1")]

    async def ask(self, payload: bytes) -> None:
        """See Line."""
        await self._runtime.send_message(Note(payload.decode("latin-1")), AgentId(self._other, "bench"))


async def open_worker(part: parts.Part, number: int, stack: AsyncExitStack) -> Worker:
    """Connect one pair's end."""
    me, other = (f"s{number}", f"r{number}") if part.sends else (f"r{number}", f"s{number}")
    runtime = GrpcWorkerAgentRuntime(part.address)
    runtime.add_message_serializer(try_get_known_serializers_for_type(Note))
    await runtime.start()
    stack.push_async_callback(runtime.stop)
    worker = Worker(runtime, other, answers=part.name == "pong")
    if not part.sends:
        await runtime.register_factory(me, lambda: Receiver(worker.arrived))
        await runtime.add_subscription(TypeSubscription(topic_type=me, agent_type=me))
    return worker


async def serve(address: str) -> None:
    """Run the host until ended."""
    host = GrpcWorkerAgentRuntimeHost(address)
    host.start()
    await asyncio.sleep(0.5)  # it starts in a task and does not tell when it is done
    print("ready", flush=True)
    await host.stop_when_signal(grace=0)


if __name__ == "__main__":
    given = parts.arguments()
    if given.name == "serve":
        asyncio.run(serve(given.address))
    else:
        parts.main(open_worker)
