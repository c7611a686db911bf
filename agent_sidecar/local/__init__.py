"""The agent's own socket: LocalService."""
