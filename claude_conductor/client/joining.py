"""How does somebody who has nothing but a token find out whether this is the right control plane, and join it?

The second half of a token is the SHA-256 of the root certificate. The certificate that the other end shows is used once, to ask
for the roots; only a root of that SHA-256 is trusted then, and only then is the token sent.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import time
from typing import Final

from claude_conductor.client.call import Caller
from claude_conductor.client.certificates import Certificates
from claude_conductor.errors import CertificateError, ControlPlaneUnavailableError, InvalidArgumentError
from claude_conductor.identity.kept import Kept
from claude_conductor.rpc.channel import Tls
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import enrolment_service_pb2 as pb
from claude_conductor.v1 import enrolment_service_pb2_grpc

_HALF: Final = 43
"""Characters of 256 bits (RFC 4648, section 5, without padding)."""
_SECONDS: Final = 10.0
_END: Final = "-----END CERTIFICATE-----"


def pin_of(token: str) -> bytes:
    """Return the SHA-256 of the root that a token names.

    Raises:
        InvalidArgumentError: It is cut, or was made by a control plane that listens on no network.
    """
    try:
        pin = base64.b64decode(token[_HALF:] + "=", altchars=b"-_", validate=True) if len(token) == 2 * _HALF else b""
    except ValueError as cause:
        raise InvalidArgumentError("This is no token for a control plane on a network.") from cause
    if not pin:
        raise InvalidArgumentError(
            "This is no token for a control plane on a network.",
            next_step="copy it whole; one that was made before `listen.clients` was set has to be made again",
        )
    return pin


def split(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises:
        InvalidArgumentError: It is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InvalidArgumentError("An address is written HOST:PORT.", address=address)
    return host.strip("[]"), int(port)


async def root_at(address: str, token: str) -> bytes:
    """Return the root certificate of the control plane at an address, PEM, if it is the one that the token names.

    Raises:
        ControlPlaneUnavailableError: Nobody answers there.
        CertificateError: It is another one.
    """
    pin, where = pin_of(token), split(address)
    try:
        async with asyncio.timeout(_SECONDS):
            shown = await asyncio.to_thread(ssl.get_server_certificate, where, timeout=_SECONDS)
    except (OSError, TimeoutError) as cause:
        raise ControlPlaneUnavailableError(
            next_step="look at `listen.clients` there, and whether the network lets you through", address=address, cause=cause
        ) from cause
    caller = Caller(address, Secret(""), tls=Tls(shown.encode()))
    try:
        authority = await Certificates(caller).authority()
    finally:
        await caller.close()
    for root in _apart(authority.trust_pem):
        if hashlib.sha256(ssl.PEM_cert_to_DER_cert(root)).digest() == pin:
            return root.encode()
    raise CertificateError(
        "This is not the control plane that the token was made by, or its authority was replaced since.",
        next_step="check the address; make a new token",
        address=address,
    )


async def join(address: str, token: str, root: bytes, key: bytes, csr: bytes) -> Kept:
    """Use a join token up, and return the identity it gives.

    Args:
        address: Of the door for clients, `HOST:PORT`.
        token: The join token.
        root: From `root_at`.
        key: The key of the new identity; it is not sent.
        csr: Proof of it.

    Raises:
        JoinRefusedError: The token is not valid any more.
    """
    caller = Caller(address, Secret(""), tls=Tls(root))
    try:
        stub = enrolment_service_pb2_grpc.EnrolmentServiceStub(caller.channel)
        answer = await caller.unary(stub.Enrol, pb.EnrolRequest(join_token=token, csr_pem=csr.decode()))
    finally:
        await caller.close()
    given = answer.credentials
    host = address.rpartition(":")[0]
    return Kept(
        address=f"{host}{answer.address}" if answer.address.startswith(":") else answer.address,
        tenant_id=answer.tenant_id,
        agent_id=answer.agent_id,
        level=answer.isolation_level,
        chain=given.chain_pem,
        trust=given.trust_pem,
        key=key.decode(),
        token=given.token,
        token_begin=time.time(),
        token_end=given.token_end_time.ToMicroseconds() / 1e6,
    )


def _apart(pem: str) -> list[str]:
    return [f"{part.strip()}\n{_END}\n" for part in pem.split(_END) if part.strip()]
