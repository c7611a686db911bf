"""Structured concurrency: named tasks, bounded queues, shutdown in steps."""
