"""Which one error stands for everything that a task group raised?"""

from __future__ import annotations


def sole(group: ExceptionGroup[Exception], *kinds: type[Exception]) -> Exception:
    """Return the group's first error of these kinds, or the group itself if it also holds an error of another kind: a bug.

        except ExceptionGroup as group:
            error = sole(group, ConductorError)
            raise error from error.__cause__

    `raise` in an `except*` clause is no substitute: before Python 3.11.4 it wraps what is raised in a group again (PEP 654).
    """
    expected, others = group.split(kinds)
    if expected is None or others is not None:
        return group
    error: Exception = expected
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
