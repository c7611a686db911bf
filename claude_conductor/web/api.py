"""How does an HTTP request become a call? POST a message as JSON, get one back; a stream comes as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from claude_conductor.errors import ConductorError, InvalidArgumentError, PermissionDeniedError
from claude_conductor.web import openapi, refusals, resuming
from claude_conductor.web.forwarding import Forwarding
from claude_conductor.web.logins import Logins
from claude_conductor.web.methods import PACKAGE, Method, methods

LARGEST_BODY: Final = 8 << 20
"""Bytes: a message of 4 MiB, the most that gRPC takes here, with its bytes as base64."""
QUIET_SECONDS: Final = 15.0
"""A stream without news says that it is alive this often, so that proxies keep it open."""
_METHOD_NOT_ALLOWED, _UNSUPPORTED, _TOO_LARGE = 405, 415, 413


class Api:
    """Serves `/api/claude_conductor.v1.Service/Method` and `/api/openapi.json`."""

    def __init__(self, forwarding: Forwarding, logins: Logins) -> None:
        self._forwarding = forwarding
        self._logins = logins
        self._methods = methods()
        self._document = openapi.document(self._methods)

    def routes(self) -> list[Route]:
        """Return what is served."""
        call = Route(f"/api/{PACKAGE}.{{service}}/{{method}}", self._call, methods=["GET", "POST"])
        return [Route("/api/openapi.json", self._describe), call]

    async def _describe(self, request: Request) -> Response:
        del request
        return JSONResponse(self._document)

    async def _call(self, request: Request) -> Response:
        name = "{service}/{method}".format(**request.path_params)
        method = self._methods.get(name)
        if method is None:
            unknown = InvalidArgumentError("There is no such method.", next_step="see /api/openapi.json", method=name)
            return refusals.answer(unknown, 404)
        try:
            token = self._token(request)
            message = await _message(request, method)
        except BadRequestError as bad:
            return refusals.answer(bad.error, bad.http)
        except ConductorError as error:
            return refusals.answer(error)
        if method.streams:
            return await self._stream(method, message, token)
        try:
            answer = await self._forwarding.unary(method, message, token)
        except grpc.aio.AioRpcError as error:
            return refusals.answer(error)
        return JSONResponse(MessageToDict(answer, preserving_proto_field_name=True))

    def _token(self, request: Request) -> str:
        """Return whose call it is: the token of its header, else that of the browser's login.

        Raises:
            PermissionDeniedError: A browser sends its cookie, but not the word that only our own pages know.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
        login = self._logins.of(request)
        if login is None:
            return ""
        if request.method != "GET" and not login.fits(request.headers.get("x-csrf-token", "")):
            raise PermissionDeniedError(
                "A call with a browser's login needs its X-CSRF-Token.", next_step="send `authorization: Bearer TOKEN` instead"
            )
        return login.token

    async def _stream(self, method: Method, message: Message, token: str) -> Response:
        items = self._forwarding.stream(method, message, token)
        first: asyncio.Future[Any] = asyncio.ensure_future(anext(items, None))
        # A stream that is refused is refused at once: that is an HTTP status, and not an event of a stream that seemed fine.
        await asyncio.wait({first}, timeout=0.5)
        failure = first.exception() if first.done() else None
        if isinstance(failure, grpc.aio.AioRpcError):
            return refusals.answer(failure)
        events = _events(items, first, resuming.Places(method.short, message))
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


class BadRequestError(Exception):
    """HTTP has an exact code for what is wrong with this request."""

    def __init__(self, error: ConductorError, http: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.http = http


async def _message(request: Request, method: Method) -> Message:
    """Return the request's message: the body, or for a stream that is opened by a browser the parameter `request`."""
    if request.method == "GET":
        if not method.streams:
            raise BadRequestError(InvalidArgumentError("This method is called with POST."), _METHOD_NOT_ALLOWED)
        text: str | bytes = request.query_params.get("request", "{}")
    else:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            needed = InvalidArgumentError("The body is JSON.", next_step="send `content-type: application/json`")
            raise BadRequestError(needed, _UNSUPPORTED)
        text = await body(request, LARGEST_BODY)
    message = method.request()
    try:
        ParseDict(_object(json.loads(text or b"{}")), message)
        message.SerializeToString()  # what cannot be sent (half of a surrogate pair) is said here
    except (ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as cause:
        name = method.descriptor.input_type.name
        raise InvalidArgumentError(f"The body is no {name}.", next_step="see /api/openapi.json", cause=cause) from cause
    resuming.resume(method.short, message, request.headers.get("last-event-id", ""))
    return message


def _object(plain: object) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise ParseError("a JSON object is needed")
    return plain


async def body(request: Request, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        BadRequestError: It is larger than `most` bytes.
    """
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > most:
            raise BadRequestError(InvalidArgumentError(f"A body has at most {most} bytes."), _TOO_LARGE)
    return bytes(read)


async def _events(
    items: AsyncGenerator[Any, None], following: asyncio.Future[Any], places: resuming.Places
) -> AsyncGenerator[str, None]:
    """Write each item as an event with its id; `error` and `end` are the last words of a stream."""
    async with aclosing(items):
        try:
            while True:
                await asyncio.wait({following}, timeout=QUIET_SECONDS)
                if not following.done():
                    yield ": still here\n\n"
                    continue
                item = None if following.cancelled() else following.result()  # cancelled: this server stops
                if item is None:
                    yield "event: end\ndata: {}\n\n"
                    return
                cursor, data = places.of(item), json.dumps(MessageToDict(item, preserving_proto_field_name=True))
                yield (f"id: {cursor}\n" if cursor else "") + f"data: {data}\n\n"
                following = asyncio.ensure_future(anext(items, None))
        except grpc.aio.AioRpcError as error:
            yield f"event: error\ndata: {json.dumps(refusals.plain(refusals.status_of(error)))}\n\n"
        finally:
            following.cancel()
            await asyncio.wait({following})
