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
        raise sole(group, ConductorError) from None


async def test_the_error_of_a_nested_group_comes_out_bare():
    with pytest.raises(DeadlineExceededError):
        await run(DeadlineExceededError())


async def test_a_bug_among_them_keeps_the_group_together():
    with pytest.raises(ExceptionGroup):
        await run(DeadlineExceededError(), ZeroDivisionError())
