"""The gateway's door: what comes through an agent's socket for its model provider becomes a conversation."""

from __future__ import annotations

import asyncio

import h11

from agent_sidecar.gateway.dialer import Dialer
from agent_sidecar.gateway.exchange import Conversation, Observers, Traffic
from agent_sidecar.gateway.hold import Hold
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import Provider
from agent_sidecar.gateway.purse import Purse
from agent_sidecar.untrusted.doorway import Doorway
from agent_sidecar.untrusted.wire import Wire
from claude_conductor.clock import Clock
from claude_conductor.errors import AgentHungUpError, InvalidArgumentError


def gateway(
    provider: Provider, observers: Observers, limits: GatewayLimits, clock: Clock, hold: Hold, purse: Purse | None = None
) -> Doorway:
    """Return the door of one agent; it is not open yet.

    Args:
        provider: Where requests go.
        observers: Told of usage and rate limits.
        limits: Bounds.
        clock: Tells the time for reset dates.
        hold: What is known of the provider's rate limit.
        purse: Asked before each call that costs something; None: nothing is limited.
    """
    traffic = Traffic(provider, limits, Dialer(provider, limits.connect_seconds), observers, clock, hold, purse)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(h11.SERVER, reader, writer, lost=AgentHungUpError, malformed=InvalidArgumentError)
        await Conversation(wire, traffic).run()

    return Doorway(serve, limits.connections, "model")
