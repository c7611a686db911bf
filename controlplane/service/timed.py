"""How long do calls of the store take, whatever the backend is?"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from claude_conductor.errors import StoreUnavailableError
from controlplane.service.meter import Meter

T = TypeVar("T")


def timed(store: T, name: str, meter: Meter) -> T:
    """Return the store with every call timed as (`name`, call) by the meter; it is the same store otherwise.

    Args:
        store: All of whose methods are coroutines, as those of `controlplane.interfaces` are.
        name: Of the store.
        meter: Told of each call and of those that could not be answered.
    """
    return cast("T", _Timed(store, name, meter))


class _Timed:
    def __init__(self, store: object, name: str, meter: Meter) -> None:
        self._store = store
        self._name = name
        self._meter = meter

    def __getattr__(self, call: str) -> Callable[..., Awaitable[Any]]:
        inner, name, meter = getattr(self._store, call), self._name, self._meter

        meter.store_failed.add(0, name, call)

        async def around(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the store takes and returns
            began = time.perf_counter()
            try:
                return await inner(*arguments, **named)
            except StoreUnavailableError:
                meter.store_failed.add(1, name, call)
                raise
            finally:
                meter.store.observe(time.perf_counter() - began, name, call)

        setattr(self, call, around)
        return around
