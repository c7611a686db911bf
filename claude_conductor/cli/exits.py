"""The exit codes of the command line: the only place where a kind of error meets one."""

from __future__ import annotations

from typing import Final

from claude_conductor.errors import ConductorError, Kind

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
DENIED: Final = 4
UNAVAILABLE: Final = 5
TIMEOUT: Final = 6
INTERRUPTED: Final = 130

BY_KIND: Final = {
    Kind.INVALID_ARGUMENT: USAGE,
    Kind.NOT_FOUND: NOT_FOUND,
    Kind.ALREADY_EXISTS: FAILURE,
    Kind.FAILED_PRECONDITION: FAILURE,
    Kind.PERMISSION_DENIED: DENIED,
    Kind.UNAUTHENTICATED: DENIED,
    Kind.RESOURCE_EXHAUSTED: FAILURE,
    Kind.UNAVAILABLE: UNAVAILABLE,
    Kind.DEADLINE_EXCEEDED: TIMEOUT,
    Kind.INTERNAL: FAILURE,
}


def code(error: ConductorError) -> int:
    """Return the exit code of an error."""
    return BY_KIND[error.kind]
