"""What the agent's door needs of the rest of the sidecar to pass messages on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from claude_conductor.v1 import message_pb2, message_service_pb2


class Post(Protocol):
    """Where the agent's messages go."""

    async def send(self, header: message_pb2.FrameHeader, envelope: message_pb2.Envelope, wait: float) -> int:
        """Return, once the control plane has accepted the message, for how many mailboxes; within `wait` seconds.

        Raises:
            ConductorError: It was refused, or there was no answer in time.
        """


class Passed(Protocol):
    """How often messages were passed on."""

    def of_next(self, message_id: str) -> int:
        """Return the hop count of a message that is sent now."""


class Letters(Protocol):
    """Where messages for the agent come from."""

    @property
    def hops(self) -> Passed:
        """Of the messages that were fetched."""

    async def fetch(self, most: int, wait: float, request_id: str) -> list[message_service_pb2.ReceivedMessage]:
        """Return messages this agent process has not fetched, in order, waiting `wait` seconds for the first.

        What was answered to the same id before, and is not acknowledged, comes again. Empty: the request has none.
        """

    def expecting(self, message_id: str) -> AbstractContextManager[None]:
        """Keep answers to a message for `reply` as long as this lasts."""

    async def reply(self, message_id: str, wait: float, *, bounces: bool) -> message_service_pb2.ReceivedMessage | None:
        """Return the first answer to a message, None after `wait` seconds without one; others keep waiting in their order.

        Args:
            message_id: What is answered; within `expecting`.
            wait: Seconds.
            bounces: Whether the control plane's word that it came back is an answer.
        """

    async def acknowledge(self, mailbox: str, positions: Sequence[int]) -> None:
        """Return once the acknowledgement is journalled.

        Raises:
            MessageNotFoundError: A position was never delivered to this mailbox.
        """
