"""The control plane: broker, task queue and registry."""
