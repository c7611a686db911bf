"""The same clients without `await`: every method blocks, streams are plain iterators."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from claude_conductor.client import agent as async_agent
from claude_conductor.client import conductor as async_conductor

_CLOSE_WAIT: Final = 5.0


class _Loop:
    """An event loop in a thread of its own, which a client lives in."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="conductor-client", daemon=True)
        self._thread.start()

    def wait(self, coroutine: Any) -> Any:  # noqa: ANN401 - whatever the async method returns
        """Run a coroutine there and return its result; calls carry their own deadlines."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, stream: AsyncIterator[Any]) -> Iterator[Any]:
        """Yield what an async iterator yields; leaving it early ends the stream."""
        end = object()
        try:
            while (item := self.wait(anext(stream, end))) is not end:
                yield item
        finally:
            self.wait(stream.aclose())  # type: ignore[attr-defined]  # every stream of ours is an async generator

    def call(self, method: Callable[..., Any]) -> Any:  # noqa: ANN401 - for clients, which are made in the loop
        """Run an ordinary function in the loop."""

        async def run() -> Any:  # noqa: ANN401
            return method()

        return self.wait(run())

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._loop.is_closed()

    def close(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_WAIT)
        self._loop.close()


class _Face:
    """Shows a group of async methods as blocking ones of the same names and arguments."""

    def __init__(self, loop: _Loop, group: object) -> None:
        self._loop = loop
        self._group = group

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the async class documents and types it
        member = getattr(self._group, name)
        if inspect.isasyncgenfunction(member):
            return lambda *given, **named: self._loop.iterate(member(*given, **named))
        if inspect.iscoroutinefunction(member):
            return lambda *given, **named: self._loop.wait(member(*given, **named))
        return member


class _Blocking:
    """What both clients have in common: a loop, and an end."""

    _loop: _Loop
    _client: Any

    def close(self) -> None:
        """Close the connection and its thread. Idempotent."""
        if not self._loop.closed:
            self._loop.wait(self._client.close())
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Conductor(_Blocking):
    """`claude_conductor.client.Conductor` without `await`: the same groups, methods, messages and errors.

    with Conductor.connect() as conductor:
        for task in conductor.tasks.list():
            print(task.task_id)
    """

    def __init__(self, loop: _Loop, client: async_conductor.Conductor) -> None:
        """Use `connect`."""
        self._loop, self._client = loop, client
        self.tasks, self.agents, self.messages = (
            _Face(loop, client.tasks),
            _Face(loop, client.agents),
            _Face(loop, client.messages),
        )
        self.schedules = _Face(loop, client.schedules)
        self.events, self.artefacts, self.admin = (
            _Face(loop, client.events),
            _Face(loop, client.artefacts),
            _Face(loop, client.admin),
        )
        self.certificates, self.tokens = _Face(loop, client.certificates), _Face(loop, client.tokens)
        self.audit = _Face(loop, client.audit)

    @classmethod
    def connect(
        cls, address: str | None = None, token: str | None = None, *, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Return a connection; the arguments are those of the async class."""
        loop = _Loop()
        return cls(loop, loop.call(lambda: async_conductor.Conductor.connect(address, token, environment=environment)))


class AgentClient(_Blocking):
    """`claude_conductor.client.agent.AgentClient` without `await`: the same methods, messages and errors."""

    def __init__(self, socket: str | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        self._loop = _Loop()
        self._client = self._loop.call(lambda: async_agent.AgentClient(socket, environment=environment))
        self._face = _Face(self._loop, self._client)

    @classmethod
    def connect(cls, socket: str | None = None, *, environment: Mapping[str, str] | None = None) -> Self:
        """Return a connection; the arguments are those of the async class."""
        return cls(socket, environment=environment)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the async class documents and types it
        return getattr(self._face, name)
