"""The sidecar: isolates one agent, runs its tasks and is its only door."""
