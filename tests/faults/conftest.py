"""A place for a run, and a whole installation for the runs with the supervisor."""

from tests.e2e.conftest import installation, place

__all__ = ["installation", "place"]
