"""Everything in this process's memory: for tests and benchmarks."""
