"""Barriers: one module per wall of the sandbox, each a pure function from a spec to what the kernel is told."""
