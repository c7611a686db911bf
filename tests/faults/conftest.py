"""A whole installation, for the run with the supervisor."""

from tests.e2e.conftest import installation, place

__all__ = ["installation", "place"]
