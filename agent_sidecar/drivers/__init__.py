"""Drivers: how each kind of agent is started and what its output means."""
