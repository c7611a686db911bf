"""What does a line of the Model Context Protocol say, and how is it answered? Pure: JSON-RPC 2.0 in, JSON-RPC 2.0 out.

Speaks every released revision (modelcontextprotocol.io/specification): those with an `initialize` handshake, and 2026-07-28, in
which each request carries its version and nothing is kept between them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

HANDSHAKE_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Oldest first; the last is offered to a client that asks for one we do not know."""
STATELESS_VERSIONS: Final = ("2026-07-28",)
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
SERVER_KEY: Final = "io.modelcontextprotocol/serverInfo"

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
TOO_MANY: Final = -32000
UNSUPPORTED_VERSION: Final = -32022
MOST_IN_A_BATCH: Final = 32

Json: TypeAlias = dict[str, Any]
Id: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class Request:
    """A call that gets exactly one answer, unless it is cancelled."""

    id: Id
    method: str
    params: Json = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The revision the request names for itself; empty in those with a handshake."""
        named = self.meta.get(VERSION_KEY)
        return named if isinstance(named, str) else ""

    @property
    def meta(self) -> Json:
        """What the protocol itself adds to the parameters."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}


@dataclass(frozen=True, slots=True)
class Notification:
    """Something to take note of; it has no answer."""

    method: str
    params: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """What cannot be a request, with the answer it gets."""

    answer: Json


@dataclass(frozen=True, slots=True)
class Server:
    """What the server says of itself."""

    name: str
    title: str
    version: str
    instructions: str

    @property
    def info(self) -> Json:
        """Its `Implementation`."""
        return {"name": self.name, "title": self.title, "version": self.version}


Incoming: TypeAlias = Request | Notification | Refused


def read(line: bytes) -> tuple[list[Incoming], bool]:
    """Return what a line says, and whether it was a batch (2025-03-26), whose answers go into one line too."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return [Refused(failure(None, PARSE_ERROR, "This line is not JSON."))], False
    if not isinstance(content, list):
        return _one(content), False
    if not 0 < len(content) <= MOST_IN_A_BATCH:
        return [Refused(failure(None, INVALID_REQUEST, f"A batch has 1 to {MOST_IN_A_BATCH} messages."))], False
    return [found for each in content for found in _one(each)], True


def _one(content: object) -> list[Incoming]:
    if not isinstance(content, dict) or content.get("jsonrpc") != "2.0":
        return [Refused(failure(None, INVALID_REQUEST, "This is not a JSON-RPC 2.0 message."))]
    if "method" not in content and ("result" in content or "error" in content):
        return []  # an answer; nothing was asked
    method, params, identity = content.get("method"), content.get("params", {}), content.get("id")
    known = identity if isinstance(identity, str | int) and not isinstance(identity, bool) else None
    if not isinstance(method, str) or ("id" in content and known is None):
        return [Refused(failure(known, INVALID_REQUEST, "A request has a method, and a text or an integer as its id."))]
    if not isinstance(params, dict):
        return [Refused(failure(known, INVALID_PARAMS, "Parameters are an object."))] if known is not None else []
    return [Request(known, method, params) if known is not None else Notification(method, params)]


def initialized(request: Request, server: Server) -> Json:
    """Answer `initialize`: the client's revision if we know it, else our newest."""
    asked = request.params.get("protocolVersion")
    version = asked if asked in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1]
    result: Json = {
        "protocolVersion": version,
        "capabilities": {"tools": {}},
        "serverInfo": server.info,
        "instructions": server.instructions,
    }
    return success(request, server, result)


def discovered(request: Request, server: Server) -> Json:
    """Answer `server/discover`, the first request of clients of 2026-07-28."""
    versions = [*HANDSHAKE_VERSIONS, *STATELESS_VERSIONS]
    result: Json = {"supportedVersions": versions, "capabilities": {"tools": {}}, "instructions": server.instructions}
    return success(request, server, result | _CACHED)


def listed(request: Request, server: Server, tools: list[Json]) -> Json:
    """Answer `tools/list`."""
    return success(request, server, {"tools": tools} | (_CACHED if request.version else {}))


def called(request: Request, server: Server, text: str, *, failed: bool) -> Json:
    """Answer `tools/call`. What went wrong in a tool is a result too, so that the model reads it."""
    return success(request, server, {"content": [{"type": "text", "text": text}], "isError": failed})


def success(request: Request, server: Server, result: Json) -> Json:
    """Return the answer with this result, in the shape of the request's revision."""
    if request.version:
        result = {**result, "resultType": "complete", "_meta": {SERVER_KEY: server.info}}
    return {"jsonrpc": "2.0", "id": request.id, "result": result}


def unsupported(request: Request) -> Json | None:
    """Return the refusal of a request that names a revision we do not speak; None if it names none or one of ours."""
    if not request.version or request.version in STATELESS_VERSIONS:
        return None
    data = {"supported": list(STATELESS_VERSIONS), "requested": request.version}
    return failure(request.id, UNSUPPORTED_VERSION, "Unsupported protocol version.", data)


def failure(identity: Id | None, code: int, message: str, data: Json | None = None) -> Json:
    """Return the answer that says why there is no result."""
    return {"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message} | ({"data": data} if data else {})}


def progress(token: Id, waited: float, longest: float, text: str) -> Json:
    """Return the notice that a call goes on; times in seconds."""
    params = {"progressToken": token, "progress": round(waited, 1), "total": round(longest, 1), "message": text}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


def written(content: Json | list[Json]) -> bytes:
    """Return a message as the line that travels. Everything beyond ASCII is escaped, so no text can end the line."""
    return json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"


_CACHED: Final[Json] = {"ttlMs": 3_600_000, "cacheScope": "private"}
"""The tools stay the same for the life of the server."""
