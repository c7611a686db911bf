"""The Python client: `Conductor` for people and programs, `agent.AgentClient` inside a sandbox, `sync` for both without await."""

from claude_conductor.client.conductor import Conductor

__all__ = ["Conductor"]
