"""Our gRPC server with TLS: both ends show certificates, a servicer sees the peer's, and nobody else gets in."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controlplane.transport.server import Server

SPIFFE = "spiffe://conductor.test/tenant/default/agent/agent-1"
NOW = dt.datetime.now(dt.UTC)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
OPTIONS = [("grpc.server_handshake_timeout_ms", 500), ("grpc.max_receive_message_length", 4 << 20)]


@dataclass(frozen=True)
class Holder:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs what the tests need."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self._name, self._key.public_key(), authority=True)

    def issue(self, common_name: str, *names: x509.GeneralName) -> Holder:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Holder(self._signed(subject, key.public_key(), *names), plain)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *names: x509.GeneralName, authority: bool = False
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(minutes=5))
            .not_valid_after(NOW + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("test authority")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Holder:
    return authority.issue("agent-1", x509.UniformResourceIdentifier(SPIFFE))


def context(authority: Authority, place: Path) -> ssl.SSLContext:
    server = authority.issue("control plane", x509.DNSName("localhost"))
    (place / "pair.pem").write_bytes(server.certificate + server.key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(place / "pair.pem")
    made.load_verify_locations(cadata=authority.certificate.decode())
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def handlers() -> grpc.GenericRpcHandler:
    async def who(request: bytes, call: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        known = {key: [value.decode() for value in values] for key, values in call.auth_context().items()}
        names = [bytes(each).decode() for each in call.peer_identities() or ()]
        return repr((call.peer_identity_key(), names, known["x509_common_name"], known["transport_security_type"])).encode()

    async def echo(request: bytes, call: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    unary = grpc.unary_unary_rpc_method_handler
    return grpc.method_handlers_generic_handler("t.T", {"who": unary(who), "echo": unary(echo)})


@contextlib.asynccontextmanager
async def serving(authority: Authority, place: Path) -> AsyncIterator[int]:
    server = Server((), OPTIONS)
    server.add_generic_rpc_handlers((handlers(),))
    port = server.add_tls_port("127.0.0.1:0", context(authority, place))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def channel(port: int, authority: Authority, holder: Holder | None) -> grpc.aio.Channel:
    key, certificate = (holder.key, holder.certificate) if holder else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate, key, certificate)
    return grpc.aio.secure_channel(f"localhost:{port}", credentials)


@pytest.fixture(params=LOOPS)
def played(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    def play(story: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(story())

    return play


def test_the_caller_is_who_its_certificate_says_as_with_grpcios_server(
    played: Any, authority: Authority, client: Holder, tmp_path: Path
) -> None:
    async def story() -> None:
        theirs = grpc.aio.server()
        theirs.add_generic_rpc_handlers((handlers(),))
        pair = authority.issue("control plane", x509.DNSName("localhost"))
        credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)], authority.certificate, require_client_auth=True)
        their_port = theirs.add_secure_port("127.0.0.1:0", credentials)
        await theirs.start()
        async with serving(authority, tmp_path) as port:
            said = []
            for each in (port, their_port):
                async with channel(each, authority, client) as calls:
                    said.append(await calls.unary_unary("/t.T/who")(b"", timeout=10))
        await theirs.stop(None)
        assert said[0] == said[1]
        expected = ("x509_subject_alternative_name", [SPIFFE], ["agent-1"], ["ssl"])
        assert said[0].decode() == repr(expected)

    played(story)


def test_large_messages_pass(played: Any, authority: Authority, client: Holder, tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(authority, tmp_path) as port, channel(port, authority, client) as calls:
            for size in (0, 100_000, 3 << 20):
                assert await calls.unary_unary("/t.T/echo")(bytes(size), timeout=10) == bytes(size)

    played(story)


@pytest.mark.parametrize("who", ["nobody", "somebody of another authority"])
def test_whom_the_authority_does_not_know_is_not_let_in(played: Any, authority: Authority, tmp_path: Path, who: str) -> None:
    async def story() -> None:
        holder = None if who == "nobody" else Authority("other").issue("agent-1", x509.UniformResourceIdentifier(SPIFFE))
        async with serving(authority, tmp_path) as port, channel(port, authority, holder) as calls:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await calls.unary_unary("/t.T/echo")(b"", timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE

    played(story)


@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01"])
def test_who_speaks_no_tls_or_never_ends_its_handshake_is_closed(
    played: Any, authority: Authority, tmp_path: Path, said: bytes
) -> None:
    async def story() -> None:
        async with serving(authority, tmp_path) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()

    played(story)


def test_tls_without_http2_is_closed(authority: Authority, client: Holder, tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "client.pem").write_bytes(client.certificate + client.key)
        own = ssl.create_default_context(cadata=authority.certificate.decode())
        own.load_cert_chain(tmp_path / "client.pem")
        async with serving(authority, tmp_path) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=own, server_hostname="localhost")
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()

    asyncio.run(story())


def test_an_old_tls_and_credentials_of_grpcio_are_refused() -> None:
    async def story() -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.raises(ValueError, match=r"TLS 1\.2"):
            Server().add_tls_port("127.0.0.1:0", old)
        with pytest.raises(RuntimeError, match="add_tls_port"):
            Server().add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(b"", b"")]))
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken, pytest.raises(RuntimeError):
            Server().add_tls_port(f"127.0.0.1:{taken.getsockname()[1]}", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    asyncio.run(story())
