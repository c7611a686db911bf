"""One error stands for a group, unless there is a bug among them."""

import asyncio

import pytest

from claude_conductor.errors import ConductorError, DeadlineExceededError
from claude_conductor.groups import sole


async def fail(error: Exception) -> None:
    raise error


async def run(*errors: Exception) -> None:
    try:
        async with asyncio.TaskGroup() as outer:
            async with asyncio.TaskGroup() as inner:
                for error in errors:
                    inner.create_task(fail(error))
            outer.create_task(asyncio.sleep(0))
    except ExceptionGroup as group:
        error = sole(group, ConductorError)
        raise error from error.__cause__


async def test_the_error_of_a_nested_group_comes_out_bare():
    late = DeadlineExceededError()
    late.__cause__ = TimeoutError()

    with pytest.raises(DeadlineExceededError) as caught:
        await run(late)
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_bug_among_them_keeps_the_group_together():
    with pytest.raises(ExceptionGroup):
        await run(DeadlineExceededError(), ZeroDivisionError())
