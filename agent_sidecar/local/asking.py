"""How does an agent's question get its answer, or the word that there will be none?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from agent_sidecar.local.mail import Letters
from claude_conductor.clock import Clock
from claude_conductor.errors import AgentNotFoundError, DeadlineExceededError, InvalidArgumentError
from claude_conductor.v1 import local_service_pb2, message_service_pb2

pb = local_service_pb2
CONDUCTOR: Final = "conductor"
"""Sender of the control plane's own notices."""
_DEFAULT_SECONDS: Final = 30.0
_LONGEST_SECONDS: Final = 3600.0
_WAY_BACK: Final = 0.05
"""Seconds of the caller's deadline that are left for the answer's way back."""


def patience(request: pb.RequestRequest, remaining: float | None) -> float:
    """Return how many seconds a request may take.

    Raises:
        InvalidArgumentError: It asks for none, or for more than an hour.
    """
    seconds = request.timeout.ToMilliseconds() / 1000 if request.HasField("timeout") else _DEFAULT_SECONDS
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise InvalidArgumentError("A request waits for more than nothing and at most an hour.", field="timeout", seconds=seconds)
    return seconds if remaining is None else max(0.0, min(seconds, remaining - _WAY_BACK))


async def ask(
    letters: Letters, clock: Clock, send: Callable[[float], Awaitable[int]], message_id: str, seconds: float
) -> message_service_pb2.ReceivedMessage:
    """Send a message and return its answer.

    Args:
        letters: Where the answer comes from.
        clock: Its monotonic time counts.
        send: Sends the message, given seconds to do so, and returns how many get it.
        message_id: Its id.
        seconds: For everything.

    Raises:
        AgentNotFoundError: Nobody gets it, or it came back.
        DeadlineExceededError: There was no answer in time.
        ConductorError: It could not be sent.
    """
    end = clock.monotonic() + seconds
    with letters.expecting(message_id):
        recipients = await send(seconds)
        if not recipients:
            raise AgentNotFoundError(
                "There is nobody to answer.", next_step="`ListSubscriptions` and `ListPeers` tell who there is"
            )
        reply = await letters.reply(message_id, max(0.0, end - clock.monotonic()), bounces=recipients == 1)
    if reply is None:
        raise DeadlineExceededError("No answer came in time.", next_step="a late one comes by `Fetch`", message_id=message_id)
    if reply.sender == CONDUCTOR:
        await letters.acknowledge(reply.mailbox, [reply.position])
        raise AgentNotFoundError(f"The message came back: {reply.envelope.data.decode(errors='replace')}.", message_id=message_id)
    return reply
