"""Whether one request may go to the provider: every reason to refuse it before it is sent, in one place.

A token budget belongs here as the last question: its reserve is taken where the others are answered, and settled by `on_usage`.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent_sidecar.gateway import refusal
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import Provider
from agent_sidecar.gateway.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Asked:
    """What the first lines of a request tell."""

    method: str
    target: str
    content_length: int | None = None
    """None: not said, so it is counted while it passes."""


def admit(asked: Asked, provider: Provider, limits: GatewayLimits, under_way: int) -> Refusal | None:
    """Return why the request is refused, or None.

    Args:
        asked: The request.
        provider: Where it would go.
        limits: The gateway's bounds.
        under_way: Exchanges of this agent at this moment.
    """
    path = asked.target.partition("?")[0]
    if asked.method == "CONNECT" or not asked.target.startswith("/"):
        return refusal.NO_PROXY
    if not provider.opens(path):
        return refusal.closed_path(path)
    if provider.key is None:
        return refusal.NO_KEY
    if asked.content_length is not None and asked.content_length > limits.body_bytes:
        return refusal.too_large(limits.body_bytes)
    if under_way >= limits.exchanges:
        return refusal.TOO_MANY
    return None
