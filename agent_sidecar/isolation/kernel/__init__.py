"""Kernel: the files and calls of Linux that isolation stands on, each behind a seam that tests can fake."""
