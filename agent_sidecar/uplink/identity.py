"""As whom does this sidecar call? By its token of this home, or by what it was given when it joined, which it renews in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import grpc

from claude_conductor.errors import ConductorError
from claude_conductor.identity.kept import Kept, write
from claude_conductor.rpc.channel import Metadata, Tls, bearer
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import enrolment_service_pb2 as pb
from claude_conductor.v1 import enrolment_service_pb2_grpc

_log = logging.getLogger(__name__)
_CALL_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 5.0
_LEAST_SECONDS: Final = 1.0
"""Between two renewals, whatever the control plane gives."""


class Identity(Protocol):
    """Who this sidecar is."""

    def metadata(self, traceparent: str = "") -> Metadata:
        """Return what is sent with a call that begins now."""

    async def serve(self) -> None:
        """Keep it valid, until cancelled."""


class HomeIdentity:
    """A token of the supervisor, for the life of the set."""

    def __init__(self, token: str) -> None:
        self._token = token

    def metadata(self, traceparent: str = "") -> Metadata:
        """See Identity."""
        return bearer(self._token, traceparent)

    async def serve(self) -> None:
        """See Identity; there is nothing to do."""
        await asyncio.Event().wait()


class JoinedIdentity:
    """A certificate, and a token that is bound to it.

    Args:
        kept: As it was read from `path`.
        path: Where it is kept.
        channel: Returns the channel in use.
        hand_over: Opens a channel with a new certificate beside the one in use; calls its second argument once it stands, and
            from then on everything begins on it.
        now: Seconds since the epoch.
        random: Returns a number from 0 up to 1.
    """

    def __init__(
        self,
        kept: Kept,
        path: Path,
        channel: Callable[[], grpc.aio.Channel],
        hand_over: Callable[[Tls, Callable[[], None]], Awaitable[None]],
        now: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._kept = kept
        self._path = path
        self._channel = channel
        self._hand_over = hand_over
        self._now = now
        self._random = random

    def metadata(self, traceparent: str = "") -> Metadata:
        """See Identity."""
        return bearer(self._kept.token, traceparent)

    async def serve(self) -> None:
        """See Identity: the certificate at half its life, the token at half of its own."""
        from claude_conductor.identity import keys  # noqa: PLC0415 - OpenSSL's bindings, for sidecars that need them only

        failing = False
        certificate_due = keys.validity(self._kept.chain.encode()).renewal(self._random())
        while True:
            token_due = (self._kept.token_begin + self._kept.token_end) / 2
            await asyncio.sleep(max(_LEAST_SECONDS, min(certificate_due, token_due) - self._now()))
            try:
                if self._now() >= certificate_due:
                    await self._renew_certificate(keys.new_key())
                    certificate_due = keys.validity(self._kept.chain.encode()).renewal(self._random())
                else:
                    self._keep(await self._renewed(pb.RenewRequest()))
                failing = False
            except ConductorError as error:
                if not failing:
                    _log.warning("the identity could not be renewed", extra={"reason": error.reason, "cause": str(error)})
                failing = True
                await asyncio.sleep(_AGAIN_SECONDS * (0.5 + self._random()))

    async def _renew_certificate(self, key: bytes) -> None:
        from claude_conductor.identity import keys  # noqa: PLC0415 - as above

        fresh = await self._renewed(pb.RenewRequest(csr_pem=keys.request(key).decode()))
        fresh = replace(fresh, key=key.decode())
        await self._hand_over(tls_of(fresh), lambda: self._keep(fresh))
        _log.info("the certificate was renewed")

    async def _renewed(self, request: pb.RenewRequest) -> Kept:
        stub = enrolment_service_pb2_grpc.EnrolmentServiceStub(self._channel())
        try:
            answer = await stub.Renew(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as cause:
            raise from_call(cause) from cause
        got = answer.credentials
        return replace(
            self._kept,
            chain=got.chain_pem or self._kept.chain,
            trust=got.trust_pem,
            token=got.token,
            token_begin=self._now(),
            token_end=got.token_end_time.ToMicroseconds() / 1e6,
        )

    def _keep(self, kept: Kept) -> None:
        self._kept = kept
        write(self._path, kept)


def tls_of(kept: Kept) -> Tls:
    """Return how connections are made as this agent."""
    return Tls(kept.trust.encode(), kept.chain.encode(), kept.key.encode())
