"""The Python client: `Conductor` for people and programs, `agent.AgentClient` inside a sandbox, `sync` for both without await."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_conductor.client.conductor import Conductor

__all__ = ["Conductor"]


def __getattr__(name: str) -> object:
    """Load `Conductor` when it is asked for: what runs inside a sandbox needs none of its services (PEP 562)."""
    if name != "Conductor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from claude_conductor.client.conductor import Conductor  # noqa: PLC0415 - that is the point

    return Conductor
