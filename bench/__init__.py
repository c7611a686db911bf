"""Benchmarks: the numbers of docs/benchmarks.md, measured on this machine by anyone."""
