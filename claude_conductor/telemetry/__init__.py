"""Logs, traces, metrics and their names."""
