"""A stub of Anthropic's Messages API on a loopback port: scripted answers, streamed like the real ones, and what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import h11

INPUT_TOKENS, OUTPUT_TOKENS, CACHE_READ_TOKENS, CACHE_WRITE_TOKENS = 120, 45, 30, 7
"""What each answer claims to have used."""


@dataclass(frozen=True)
class Say:
    """Answer with text."""

    text: str


@dataclass(frozen=True)
class Use:
    """Answer with the use of a tool."""

    tool: str
    arguments: Mapping[str, object]
    text: str = ""


@dataclass(frozen=True)
class Refuse:
    """Answer with an error."""

    status: int
    kind: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Begin the answer and close the connection after some events."""

    events: int = 2


@dataclass(frozen=True)
class Hold:
    """Send some events, wait until released, then send the rest."""

    events: int
    released: asyncio.Event
    text: str = "held"


@dataclass(frozen=True)
class Echo:
    """Answer with plain JSON that holds the size of the request."""


Reply = Say | Use | Refuse | Cut | Hold | Echo
Script = Callable[[dict[str, Any]], Reply]


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers.get("x-api-key", "")


def use_then_say(tool: str, arguments: Mapping[str, object], text: str) -> Script:
    """First the tool, after its result the text; requests without tools (titles and the like) get the text at once."""

    def script(body: dict[str, Any]) -> Reply:
        used = any(
            isinstance(part, dict) and part.get("type") == "tool_result"
            for message in body.get("messages", [])
            if isinstance(message.get("content"), list)
            for part in message["content"]
        )
        return Say(text) if used or not body.get("tools") else Use(tool, arguments, "I will use a tool.")

    return script


class MessagesApi:
    """Serves until its context ends. `once` replies are used up first, then the script answers."""

    def __init__(self, script: Script = lambda _: Say("hello"), *, once: tuple[Reply, ...] = ()) -> None:
        self._script = script
        self._once = list(once)
        self.seen: list[Seen] = []
        self.hung_up = asyncio.Event()
        """Set when a caller closed its connection before its answer was complete."""
        self.began = asyncio.Event()
        """Set when the first event of an answer was sent."""
        self.url = ""

    @contextlib.asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[MessagesApi]:
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await _Connection(self, reader, writer).serve()
            except (OSError, h11.ProtocolError):
                self.hung_up.set()
            except asyncio.CancelledError:
                if not closing:
                    raise
            finally:
                tasks.discard(task)
                writer.transport.abort()

        closing = False
        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            closing = True
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def reply(self, body: dict[str, Any]) -> Reply:
        return self._once.pop(0) if self._once else self._script(body)


class _Connection:
    def __init__(self, api: MessagesApi, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._api, self._reader, self._writer = api, reader, writer
        self._wire = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        while True:
            event = await self._next()
            if not isinstance(event, h11.Request):
                return
            body = bytearray()
            while isinstance(part := await self._next(), h11.Data):
                body += part.data
            headers = {name.decode(): value.decode() for name, value in event.headers}
            seen = Seen(event.method.decode(), event.target.decode(), headers, bytes(body))
            self._api.seen.append(seen)
            await self._answer(seen)
            if self._wire.our_state is not h11.DONE or self._wire.their_state is not h11.DONE:
                return
            self._wire.start_next_cycle()

    async def _answer(self, seen: Seen) -> None:
        if seen.method == "HEAD":
            await self._send(h11.Response(status_code=200, headers=[("content-length", "0")]), h11.EndOfMessage())
            return
        if seen.method != "POST" or seen.target.partition("?")[0] != "/v1/messages":
            await self._error(Refuse(404, "not_found_error"))
            return
        reply = self._api.reply(json.loads(seen.body or b"{}"))
        if isinstance(reply, Refuse):
            await self._error(reply)
        elif isinstance(reply, Echo):
            await self._json(
                200, {"size": len(seen.body), "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}}
            )
        else:
            await self._stream(reply)

    async def _error(self, reply: Refuse) -> None:
        body = {"type": "error", "error": {"type": reply.kind, "message": "scripted"}}
        await self._json(reply.status, body, reply.headers)

    async def _json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        all_headers = [("content-type", "application/json"), ("content-length", str(len(data))), *(headers or {}).items()]
        await self._send(h11.Response(status_code=status, headers=all_headers), h11.Data(data=data), h11.EndOfMessage())

    async def _stream(self, reply: Say | Use | Cut | Hold) -> None:
        headers = [("content-type", "text/event-stream"), ("cache-control", "no-cache")]
        await self._send(h11.Response(status_code=200, headers=headers))
        for number, (name, payload) in enumerate(_events(reply, len(self._api.seen))):
            if isinstance(reply, Cut) and number == reply.events:
                raise ConnectionAbortedError
            if isinstance(reply, Hold) and number == reply.events:
                await self._held(reply)
            data = f"event: {name}\ndata: {json.dumps(payload)}\n\n".encode()
            await self._send(h11.Data(data=data))
            self._api.began.set()
        await self._send(h11.EndOfMessage())

    async def _held(self, reply: Hold) -> None:
        """Wait for the release, or notice that the caller went away."""
        released = asyncio.ensure_future(reply.released.wait())
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            await asyncio.wait({released, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not gone.result():
                raise ConnectionResetError
        finally:
            for waiting in (released, gone):
                waiting.cancel()
            await asyncio.gather(released, gone, return_exceptions=True)

    async def _next(self) -> object:
        while (event := self._wire.next_event()) is h11.NEED_DATA:
            self._wire.receive_data(await self._reader.read(65536))
        return event

    async def _send(self, *events: h11.Event) -> None:
        for event in events:
            self._writer.write(self._wire.send(event) or b"")
        await self._writer.drain()


def _events(reply: Say | Use | Cut | Hold, number: int) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of one streamed message, in the order of the real API."""
    text = reply.text if isinstance(reply, Say | Use | Hold) else "cut"
    usage = {
        "input_tokens": INPUT_TOKENS,
        "output_tokens": 1,
        "cache_read_input_tokens": CACHE_READ_TOKENS,
        "cache_creation_input_tokens": CACHE_WRITE_TOKENS,
    }
    message = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "claude-stub",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    blocks: list[tuple[dict[str, Any], dict[str, Any]]] = []
    if text:
        blocks.append(({"type": "text", "text": ""}, {"type": "text_delta", "text": text}))
    if isinstance(reply, Use):
        start = {"type": "tool_use", "id": f"toolu_{number}", "name": reply.tool, "input": {}}
        blocks.append((start, {"type": "input_json_delta", "partial_json": json.dumps(reply.arguments)}))
    events: list[tuple[str, dict[str, Any]]] = [("message_start", {"type": "message_start", "message": message})]
    for index, (block, delta) in enumerate(blocks):
        events += [
            ("content_block_start", {"type": "content_block_start", "index": index, "content_block": block}),
            ("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}),
            ("content_block_stop", {"type": "content_block_stop", "index": index}),
        ]
    reason = "tool_use" if isinstance(reply, Use) else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": None}
    events.append(("message_delta", {"type": "message_delta", "delta": delta, "usage": {"output_tokens": OUTPUT_TOKENS}}))
    events.append(("message_stop", {"type": "message_stop"}))
    return events
