"""What is between a sidecar and the control plane? A stream that takes time, holds little, and is cut before any frame."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from claude_conductor.errors import ConductorError
from claude_conductor.ids import DEFAULT_TENANT, AgentId
from controlplane.api.guard.caller import Caller, set_caller
from controlplane.domain.identity import Role
from tests.simulation.processes import Fate, Process

WINDOW = 6
"""Frames under way in one direction; with more a write waits."""


class Pipe:
    """One direction of a stream."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate
        self._under_way = 0
        self._arrived: deque[bytes] = deque()
        self._last = 0.0
        self._changed = asyncio.Event()
        self.closed = False
        """Nothing more comes; what has arrived can still be read."""

    async def put(self, frame: bytes) -> None:
        while self._under_way + len(self._arrived) >= WINDOW and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        loop = asyncio.get_running_loop()
        self._last = max(self._last + 1e-7, loop.time() + self._fate.delay())
        self._under_way += 1
        loop.call_at(self._last, self._arrive, frame)

    def _arrive(self, frame: bytes) -> None:
        self._under_way -= 1
        if not self.closed:
            self._arrived.append(frame)
        self._wake()

    async def get(self) -> bytes | None:
        """Return the next frame, None after the last one."""
        while not self._arrived:
            if self.closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        frame = self._arrived.popleft()
        self._wake()
        return frame

    def finish(self) -> None:
        """Close it behind what is under way."""
        loop = asyncio.get_running_loop()
        self._last = max(self._last + 1e-7, loop.time() + self._fate.delay())
        loop.call_at(self._last, self.close)

    def close(self) -> None:
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()


class Stream:
    """One call of SessionService.Connect: `client` for the sidecar, `server` for the servicer."""

    def __init__(self, fate: Fate, cutting: float) -> None:
        self._fate = fate
        self._cutting = cutting
        self.up = Pipe(fate)
        self.down = Pipe(fate)
        self.status: grpc.StatusCode | None = None
        """How it ended for the sidecar."""
        self.details = ""
        self.handler: asyncio.Task[None] | None = None
        self._gone = False
        """The server has noticed that nobody is there."""
        self.cut_off = False

    # --- what happens to it

    def _perhaps_cut(self) -> None:
        if self._fate.strikes(self._cutting):
            self.cut()

    def cut(self) -> None:
        """Break; both sides notice, each in its own time, and what was under way is gone."""
        if self.cut_off:
            return
        self.cut_off = True
        loop = asyncio.get_running_loop()
        slow = 0.5 if self._fate.chance(0.2) else 0.005
        loop.call_later(self._fate.delay(slow), self.end, grpc.StatusCode.UNAVAILABLE, "the link broke")
        loop.call_later(self._fate.delay(slow), self.notice)

    def end(self, status: grpc.StatusCode, details: str = "") -> None:
        """End it for the sidecar."""
        if self.status is None:
            self.status, self.details = status, details
        self.down.close()
        self.up.closed = self.up.closed or self.cut_off
        self.up._wake()

    def notice(self) -> None:
        """Have the server see that the sidecar is gone: a read ends, a write fails, the call is cancelled, in any order."""
        self._gone = True
        self.up.close()
        self.down._wake()
        self.down.closed = True
        if self.handler is not None:
            asyncio.get_running_loop().call_later(self._fate.delay(0.002), self.handler.cancel)

    # --- the servicer's side

    async def read(self) -> object:
        frame = await self.up.get()
        return grpc.aio.EOF if frame is None else frame

    async def send_initial_metadata(self, metadata: object) -> None:
        """Nothing to see."""

    async def write(self, frame: bytes) -> None:
        self._perhaps_cut()
        if not self.cut_off:
            await self.down.put(frame)
        if self._gone:
            raise grpc.aio.InternalError("the stream is broken")


class Call:
    """The sidecar's side, with the methods of grpc.aio.StreamStreamCall that it uses."""

    def __init__(self, stream: Stream, fate: Fate) -> None:
        self._stream = stream
        self._fate = fate

    async def write(self, frame: bytes) -> None:
        stream = self._stream
        stream._perhaps_cut()
        if not stream.cut_off:
            await stream.up.put(frame)
        if stream.status is not None:
            if self._fate.chance(0.5):
                raise asyncio.InvalidStateError("RPC already finished.")
            raise self._error()

    async def read(self) -> object:
        frame = await self._stream.down.get()
        if frame is not None:
            return frame
        while self._stream.status is None:  # noqa: ASYNC110 - virtual time costs nothing
            await asyncio.sleep(0.001)
        if self._stream.status is not grpc.StatusCode.OK:
            raise self._error()
        return grpc.aio.EOF

    def _error(self) -> grpc.aio.AioRpcError:
        status = self._stream.status or grpc.StatusCode.UNKNOWN
        return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(), self._stream.details, None)

    def cancel(self) -> None:
        self._stream.cut()

    async def code(self) -> grpc.StatusCode:
        return self._stream.status or grpc.StatusCode.UNKNOWN


class Network:
    """Takes sidecars to the control plane that listens now, if one does.

    Args:
        fate: Says what breaks.
        cutting: The probability that a frame is the last of its stream.
    """

    def __init__(self, fate: Fate, cutting: float) -> None:
        self._fate = fate
        self._cutting = cutting
        self.bugs: list[str] = []
        """What servicers raised that is no answer."""
        self._serving: tuple[Process, Any] | None = None
        self._streams: list[Stream] = []

    def listen(self, process: Process, servicer: Any) -> None:
        self._serving = (process, servicer)

    def fall_silent(self) -> None:
        """The control plane is gone, with every connection."""
        self._serving = None
        for stream in self._streams:
            stream.cut()
        self._streams.clear()

    def connect(self, agent_id: str) -> Call:
        stream = Stream(self._fate, self._cutting)
        if self._serving is None:
            stream.cut()
        else:
            process, servicer = self._serving
            self._streams = [*(each for each in self._streams if not each.cut_off), stream]
            stream.handler = process.start(self._serve(stream, servicer, agent_id), f"connect {agent_id}")
        return Call(stream, self._fate)

    async def _serve(self, stream: Stream, servicer: Any, agent_id: str) -> None:
        set_caller(Caller(Role.SIDECAR, DEFAULT_TENANT, AgentId(agent_id)))
        status, details = grpc.StatusCode.OK, ""
        try:
            await servicer.connect(None, stream)
        except ConductorError as error:
            status, details = grpc.StatusCode.UNAVAILABLE, str(error)
        except Exception as error:  # noqa: BLE001 - what the outermost interceptor would log as a bug
            self.bugs.append(f"a call failed: {error!r}")
        finally:
            stream.handler = None
            if not stream.cut_off:
                stream.down.finish()
                asyncio.get_running_loop().call_later(0.005, stream.end, status, details)


class Channel:
    """The channel of one sidecar.

    Args:
        network: What it is part of.
        agent_id: Whose token it would carry.
    """

    def __init__(self, network: Network, agent_id: str) -> None:
        self._network = network
        self._agent_id = agent_id

    def stream_stream(self, *_: object, **__: object) -> Callable[..., Call]:
        return lambda **_: self._network.connect(self._agent_id)
