"""What does a servicer see of its call? The interface of grpc.aio, over a call of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc

from controlplane.transport.call import Call
from controlplane.transport.identity import ALTERNATIVE_NAMES
from controlplane.transport.metadata import Metadata
from controlplane.transport.refusal import CallRefusedError, Code

Handler = Any  # grpc.RpcMethodHandler, whose generic stubs know synchronous behaviours only
_Done = Callable[["Context"], None]


class Context(grpc.aio.ServicerContext[Any, Any]):
    """The context of one call, as `grpc.aio` describes it; docstrings say what is different there or left open."""

    def __init__(self, call: Call, handler: Handler) -> None:
        """Begin with the status OK.

        Args:
            call: What it is the face of.
            handler: Says how messages are read and written; without serialisers they are bytes.
        """
        self._call = call
        self._read = handler.request_deserializer
        self._write = handler.response_serializer
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()
        self._aborted: grpc.aio.AbortError | None = None
        self._callbacks: list[_Done] = []

    async def read(self) -> Any:  # noqa: ANN401 - whatever the deserialiser makes
        """Return the next message, without giving others a turn if it is there; `grpc.aio.EOF` after the last one."""
        if self._call.finished:
            self.check()
        raw = await self._call.receive()
        if raw is None:
            return grpc.aio.EOF
        return raw if self._read is None else self._read(raw)

    async def write(self, message: Any) -> None:  # noqa: ANN401 - whatever the serialiser takes
        """Send a message, without giving others a turn if it leaves at once.

        Raises:
            grpc.aio.InternalError: The call has ended.
        """
        if self._call.finished:
            self.check()
        await self._call.send(message if self._write is None else self._write(message))

    async def send_initial_metadata(self, initial_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Send the headers of the answer.

        Raises:
            grpc.aio.UsageError: They have left already.
            grpc.aio.InternalError: The call has ended.
        """
        self.check()
        if self._call.begun:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        self._call.begin(initial_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:  # noqa: ANN401 - as there
        """Send a status other than OK, and raise `AbortError`."""
        if self._aborted is not None:
            raise grpc.aio.UsageError("Abort already called!")
        self._code, self._details = code, details or self._details
        self._trailing = tuple(trailing_metadata) or self._trailing
        self._call.finish(code, self._details, self._trailing)
        self._aborted = grpc.aio.AbortError("Locally aborted.")
        raise self._aborted

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Send a status of `grpc_status.rpc_status`, and raise `AbortError`."""
        await self.abort(status.code, status.details or "", status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:  # noqa: ANN401 - Metadata, or pairs
        """Note what goes along with the status."""
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:  # noqa: ANN401 - the stubs know `Metadata` only
        """Return what goes along with the status."""
        return self._trailing

    def invocation_metadata(self) -> Any:  # noqa: ANN401 - the stubs know `Metadata` only
        """Return what the caller sent along."""
        return self._call.invocation.invocation_metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Note the status; it is sent when the servicer returns."""
        self._code = code

    def code(self) -> Any:  # noqa: ANN401 - None until there is one, as there
        """Return the status that was set, or None."""
        return self._code

    def set_details(self, details: str) -> None:
        """Note the words that go with the status."""
        self._details = details

    def details(self) -> str:
        """Return the words that go with the status."""
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Do nothing: answers are not compressed."""

    def disable_next_message_compression(self) -> None:
        """Do nothing: answers are not compressed."""

    def peer(self) -> str:
        """Return who calls, as an address of gRPC."""
        return self._call.peer

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return the names of the caller's certificate; None if there is none."""
        return self._call.identity.get(ALTERNATIVE_NAMES)

    def peer_identity_key(self) -> str | None:
        """Return what names the caller in `auth_context`; None if it has no certificate."""
        return ALTERNATIVE_NAMES if ALTERNATIVE_NAMES in self._call.identity else None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what TLS says of the caller; nothing without it."""
        return self._call.identity

    def time_remaining(self) -> Any:  # noqa: ANN401 - a float by the stubs, None without a deadline in fact
        """Return the seconds that are left; None without a deadline."""
        return self._call.time_remaining

    def add_done_callback(self, callback: Any) -> None:  # noqa: ANN401 - the stubs leave it open
        """Call this with the context once the handler has ended."""
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Tell whether the call ended otherwise than by a status of the servicer."""
        return self._call.lost

    def done(self) -> bool:
        """Tell whether the call has ended."""
        return self._call.finished

    # What the server does with it --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Make sure that the call goes on.

        Raises:
            grpc.aio.AbortError: It was aborted, and somebody went on all the same.
            grpc.aio.InternalError: It has ended.
        """
        if self._aborted is not None:
            raise self._aborted
        self._call.check_open()

    async def requests(self) -> AsyncIterator[Any]:
        """Yield the messages of the request; what a servicer of streams is handed."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def request(self) -> Any:  # noqa: ANN401 - whatever the deserialiser makes
        """Return the one message of a request that has one.

        Raises:
            CallRefusedError: There is none.
        """
        message = await self.read()
        if message is grpc.aio.EOF:
            raise CallRefusedError(Code.INTERNAL, "The request has no message.")
        return message

    async def answer(self, message: Any) -> None:  # noqa: ANN401 - whatever the serialiser takes
        """Send the one message of an answer that has one, unless the status says otherwise, and the status."""
        self.check()
        if self._code in (None, Code.OK):
            await self.write(message)
        self.finish()

    def finish(self) -> None:
        """Send the status that was set."""
        self.check()
        self._call.finish(self._code or Code.OK, self._details, self._trailing)

    def run_callbacks(self) -> None:
        """Tell who wants to know that the handler has ended."""
        for callback in self._callbacks:
            callback(self)
