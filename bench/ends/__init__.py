"""The programs at both ends of a relay: one module a system, each run in that system's own virtual environment."""
