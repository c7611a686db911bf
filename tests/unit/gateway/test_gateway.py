"""The gateway over real sockets, against the stub of the provider."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent_sidecar.gateway.door import Door, open_gateway
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import provider_at
from agent_sidecar.gateway.usage import Usage
from claude_conductor.clock import SystemClock
from claude_conductor.errors import AddressInUseError, SocketPathTooLongError
from claude_conductor.settings.secret import Secret
from tests.fakes import messages_api as api
from tests.fakes.http_agent import ask, connected

from .conftest import REAL_KEY, Opener

MESSAGES = "/v1/messages?beta=true"
BODY = json.dumps({"model": "m", "max_tokens": 5, "stream": True, "messages": []}).encode()
COUNTED = Usage(api.INPUT_TOKENS, api.OUTPUT_TOKENS, api.CACHE_READ_TOKENS, api.CACHE_WRITE_TOKENS, "claude-stub")


async def test_the_agents_key_is_replaced_by_the_real_one(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened:
        headers = [
            ("x-api-key", "placeholder"),
            ("authorization", "Bearer agent"),
            ("cookie", "a=b"),
            ("anthropic-version", "2023-06-01"),
        ]
        answer = await ask(opened.path, "POST", MESSAGES, headers, BODY)

    assert answer.status == 200
    assert answer.whole
    seen = stub.seen[0]
    assert seen.key == REAL_KEY
    assert seen.target == MESSAGES
    assert seen.body == BODY
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["host"] == stub.url.removeprefix("http://")
    assert not {"authorization", "cookie"} & set(seen.headers)


async def test_the_events_of_a_streamed_answer_arrive_before_it_is_complete(gateway: Opener):
    released = asyncio.Event()
    hold = api.Hold(2, released)
    async with api.MessagesApi(once=(hold,)).serve() as stub, gateway(stub.url) as opened, connected(opened.path) as agent:
        await agent.send("POST", MESSAGES, body=BODY)
        head = await agent.event()
        got = b""
        while got.count(b"\n\n") < 2:
            got += (await agent.event()).data
        assert b"message_stop" not in got
        released.set()
        while isinstance(piece := await agent.event(), h11.Data):
            got += piece.data

    assert dict(head.headers)[b"content-type"] == b"text/event-stream"
    assert b"message_stop" in got
    assert got.startswith(b"event: message_start\n")


async def test_usage_of_a_streamed_answer_is_told_once(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened:
        await ask(opened.path, "POST", MESSAGES, body=BODY)

        assert opened.usage == [COUNTED]


async def test_usage_of_a_plain_answer_is_told(gateway: Opener):
    async with api.MessagesApi(once=(api.Echo(),)).serve() as stub, gateway(stub.url) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, body=BODY)

        assert answer.json()["size"] == len(BODY)
        assert opened.usage == [Usage(api.INPUT_TOKENS, api.OUTPUT_TOKENS, 0, 0)]


async def test_a_head_request_is_answered(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened, connected(opened.path) as agent:
        answer = await agent.ask("HEAD", "/")
        agent.wire.start_next_cycle()
        again = await agent.ask("POST", MESSAGES, body=BODY)

    assert (answer.status, answer.body) == (200, b"")
    assert again.status == 200
    assert [seen.method for seen in stub.seen] == ["HEAD", "POST"]


def too_many(seconds: str) -> api.Refuse:
    return api.Refuse(429, "rate_limit_error", {"retry-after": seconds})


async def test_a_request_that_ran_into_a_rate_limit_is_asked_again_after_it_and_the_agent_does_not_notice(gateway: Opener):
    limits = (too_many("0.05"), too_many("0.1"))
    async with api.MessagesApi(once=limits).serve() as stub, gateway(stub.url) as opened:
        begun = asyncio.get_running_loop().time()
        answer = await ask(opened.path, "POST", MESSAGES, body=BODY)

        assert (answer.status, answer.whole) == (200, True)
        assert asyncio.get_running_loop().time() - begun >= 0.15
        assert [seen.body for seen in stub.seen] == [BODY] * 3
        assert (opened.rate_limits, len(opened.taken), opened.usage) == ([0.05, 0.1], 1, [COUNTED])


async def test_a_limit_that_does_not_say_until_when_is_waited_for_a_little(gateway: Opener):
    limits = GatewayLimits(unknown_reset_seconds=0.05)
    refuse = api.Refuse(429, "rate_limit_error")
    async with api.MessagesApi(once=(refuse,)).serve() as stub, gateway(stub.url, limits) as opened:
        assert (await ask(opened.path, "POST", MESSAGES, body=BODY)).status == 200
        assert opened.rate_limits == [0.05]


async def test_a_rate_limit_is_passed_on_where_the_request_cannot_be_kept(gateway: Opener):
    limits = GatewayLimits(kept_bytes=len(BODY) - 1)
    async with api.MessagesApi(once=(too_many("17"),)).serve() as stub, gateway(stub.url, limits) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, body=BODY)

        assert (answer.status, answer.headers["retry-after"]) == (429, "17")
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert (opened.rate_limits, opened.taken, opened.usage) == ([17.0], [], [])


async def test_a_limit_longer_than_an_agent_waits_for_is_told_and_nothing_is_asked_meanwhile(gateway: Opener):
    async with api.MessagesApi(once=(too_many("1000"),)).serve() as stub, gateway(stub.url) as opened:
        first = await ask(opened.path, "POST", MESSAGES, body=BODY)
        second = await ask(opened.path, "POST", MESSAGES, body=BODY)

        assert (first.status, second.status, second.headers["retry-after"]) == (429, 429, "1000")
        assert second.json()["error"]["type"] == "rate_limit_error"
        assert len(stub.seen) == 1
        assert opened.held[-1] > 990


async def test_what_somebody_else_ran_into_holds_requests_here_until_our_turn(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened:
        opened.hold.close(0.02, turn=0.1)
        begun = asyncio.get_running_loop().time()
        answer = await ask(opened.path, "POST", MESSAGES, body=BODY)

        assert answer.status == 200
        assert asyncio.get_running_loop().time() - begun >= 0.1
        assert (opened.rate_limits, len(stub.seen)) == ([], 1)


async def test_an_agent_that_hangs_up_while_its_request_is_held_makes_room_for_another(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url, GatewayLimits(exchanges=1)) as opened:
        opened.hold.close(500.0)
        async with connected(opened.path) as agent, asyncio.timeout(10):
            await agent.send("POST", MESSAGES, body=BODY)
            await opened.waiting.wait()
            assert (await ask(opened.path, "POST", MESSAGES, body=BODY)).status == 529, "the control: there is room for one"
            opened.waiting.clear()
        async with asyncio.timeout(10):
            while not opened.waiting.is_set():
                async with connected(opened.path) as other:
                    await other.send("POST", MESSAGES, body=BODY)
                    answered = asyncio.create_task(other.answer(), name="answer")
                    held = asyncio.create_task(opened.waiting.wait(), name="held")
                    await asyncio.wait({answered, held}, return_when=asyncio.FIRST_COMPLETED)
                    for task in (answered, held):
                        task.cancel()
                    await asyncio.gather(answered, held, return_exceptions=True)
        assert stub.seen == []


async def test_a_provider_that_breaks_off_ends_the_agents_answer_too(gateway: Opener):
    async with api.MessagesApi(once=(api.Cut(2),)).serve() as stub, gateway(stub.url) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, body=BODY)

        assert answer.status == 200
        assert not answer.whole
        assert opened.usage == [replace(COUNTED, output_tokens=1)]
        assert (await ask(opened.path, "POST", MESSAGES, body=BODY)).whole


async def test_an_agent_that_hangs_up_ends_the_call_at_the_provider(gateway: Opener):
    hold = api.Hold(1, asyncio.Event())
    async with api.MessagesApi(once=(hold,)).serve() as stub, gateway(stub.url) as opened:
        async with connected(opened.path) as agent:
            await agent.send("POST", MESSAGES, body=BODY)
            await asyncio.wait_for(stub.began.wait(), 10)

        await asyncio.wait_for(stub.hung_up.wait(), 10)


async def test_an_agent_that_hangs_up_before_the_first_byte_ends_the_call_at_the_provider(gateway: Opener):
    accepted, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        accepted.set()
        while await reader.read(65536):
            continue
        closed.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, gateway(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as opened:
        async with connected(opened.path) as agent:
            await agent.send("POST", MESSAGES, body=BODY)
            await asyncio.wait_for(accepted.wait(), 10)

        await asyncio.wait_for(closed.wait(), 10)


async def test_an_unreachable_provider_is_an_error_in_the_providers_shape(gateway: Opener):
    async with gateway("http://127.0.0.1:1") as opened:
        answer = await ask(opened.path, "POST", MESSAGES, body=BODY)

    assert answer.status == 502
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "api_error"
    assert "could not be reached" in answer.json()["error"]["message"]


async def test_a_provider_that_never_answers_is_a_timeout_error(gateway: Opener):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    limits = GatewayLimits(first_byte_seconds=0.05)
    async with server, gateway(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", limits) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, body=BODY)

    assert (answer.status, answer.json()["error"]["type"]) == (504, "timeout_error")


async def test_a_whole_exchange_has_a_deadline(gateway: Opener):
    hold = api.Hold(1, asyncio.Event())
    async with api.MessagesApi(once=(hold,)).serve() as stub, gateway(stub.url, GatewayLimits(exchange_seconds=0.3)) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, body=BODY)

    assert not answer.whole


async def test_without_a_key_the_agent_is_told_what_to_do(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(provider_at(stub.url)) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, [("x-api-key", "mine")], BODY)
        head = await ask(opened.path, "HEAD", "/")

    assert (answer.status, answer.json()["error"]["type"]) == (401, "authentication_error")
    assert "conductor start" in answer.json()["error"]["message"]
    assert (head.status, head.body) == (401, b"")
    assert stub.seen == []


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/v1/messages", "//127.0.0.1:9/v1/messages", "*"])
async def test_the_gateway_is_no_open_proxy(gateway: Opener, target: str):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened:
        answer = await ask(opened.path, "POST" if target != "*" else "OPTIONS", target, body=BODY if target != "*" else b"")

    assert answer.status in (400, 404)
    assert answer.json()["type"] == "error"
    assert stub.seen == []


async def test_connect_is_refused(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened:
        answer = await ask(opened.path, "CONNECT", "127.0.0.1:9")

    assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert stub.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages/batches",
        "/v1/files",
        "/v1/organizations/api_keys",
        "/v1/messages/../files",
        "/v1/%6dessages",
        "/v1/models/../files",
    ],
)
async def test_paths_that_are_not_counted_stay_closed(gateway: Opener, path: str):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened:
        answer = await ask(opened.path, "POST", path, body=BODY)

    assert (answer.status, answer.json()["error"]["type"]) == (404, "not_found_error")
    assert stub.seen == []


async def test_a_body_over_the_limit_is_refused_by_its_declared_length(gateway: Opener):
    async with (
        api.MessagesApi().serve() as stub,
        gateway(stub.url, GatewayLimits(body_bytes=1000)) as opened,
        connected(opened.path) as agent,
    ):
        answer = await agent.ask("POST", MESSAGES, body=b"x" * 300_000)
        agent.wire.start_next_cycle()
        after = await agent.ask("POST", MESSAGES, body=BODY)

    assert (answer.status, answer.json()["error"]["type"]) == (413, "request_too_large")
    assert after.status == 200
    assert len(stub.seen) == 1


async def test_a_chunked_body_over_the_limit_is_cut_while_it_comes(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url, GatewayLimits(body_bytes=1000)) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, [("transfer-encoding", "chunked")], b"x" * 300_000)

    assert (answer.status, answer.json()["error"]["type"]) == (413, "request_too_large")
    assert stub.seen == []


async def test_a_provider_that_answers_before_it_has_read_everything_is_heard(gateway: Opener):
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        while await reader.read(65536):
            continue
        writer.close()

    server = await asyncio.start_server(hasty, "127.0.0.1", 0)
    async with (
        server,
        gateway(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as opened,
        connected(opened.path) as agent,
    ):
        headers = [("host", "x"), ("content-length", "6")]
        agent.write(h11.Request(method="POST", target=MESSAGES, headers=headers))
        agent.write(h11.Data(data=b"abc"))
        answer = await agent.answer()
        agent.write(h11.Data(data=b"def"))
        agent.write(h11.EndOfMessage())
        agent.wire.start_next_cycle()
        again = await agent.ask("POST", MESSAGES, body=BODY)

    assert (answer.status, answer.body, answer.whole) == (413, b"{}", True)
    assert again.status == 413


async def test_a_chunked_body_reaches_the_provider(gateway: Opener):
    async with api.MessagesApi(once=(api.Echo(),)).serve() as stub, gateway(stub.url) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, [("transfer-encoding", "chunked")], BODY)

    assert answer.json()["size"] == len(BODY)
    assert stub.seen[0].headers["transfer-encoding"] == "chunked"


async def test_a_large_body_within_the_limit_passes_whole(gateway: Opener):
    body = json.dumps({"text": "y" * 3_000_000}).encode()
    async with api.MessagesApi(once=(api.Echo(),)).serve() as stub, gateway(stub.url) as opened:
        answer = await ask(opened.path, "POST", MESSAGES, body=body)

    assert answer.json()["size"] == len(body)
    assert stub.seen[0].body == body


async def test_an_agent_that_waits_for_100_continue_gets_it(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened, connected(opened.path) as agent:
        headers = [("host", "x"), ("content-length", str(len(BODY))), ("expect", "100-continue")]
        agent.write(h11.Request(method="POST", target=MESSAGES, headers=headers))
        told = await agent.event()
        agent.write(h11.Data(data=BODY))
        agent.write(h11.EndOfMessage())
        answer = await agent.answer()

    assert isinstance(told, h11.InformationalResponse)
    assert (told.status_code, answer.status) == (100, 200)
    assert "expect" not in stub.seen[0].headers


async def test_more_requests_at_once_than_allowed_are_refused_as_overload(gateway: Opener):
    hold = api.Hold(1, asyncio.Event())
    async with api.MessagesApi(once=(hold,)).serve() as stub, gateway(stub.url, GatewayLimits(exchanges=1)) as opened:
        async with connected(opened.path) as first:
            await first.send("POST", MESSAGES, body=BODY)
            await asyncio.wait_for(stub.began.wait(), 10)
            second = await ask(opened.path, "POST", MESSAGES, body=BODY)
            hold.released.set()
            assert (await first.answer()).whole

        assert (second.status, second.json()["error"]["type"]) == (529, "overloaded_error")
        assert (await ask(opened.path, "POST", MESSAGES, body=BODY)).status == 200


async def test_connections_over_the_limit_are_closed(gateway: Opener):
    async with (
        api.MessagesApi().serve() as stub,
        gateway(stub.url, GatewayLimits(connections=1)) as opened,
        connected(opened.path) as first,
    ):
        assert (await first.ask("HEAD", "/")).status == 200
        reader, writer = await asyncio.open_unix_connection(str(opened.path))

        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_what_is_no_http_is_answered_with_an_error(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened:
        reader, writer = await asyncio.open_unix_connection(str(opened.path))
        writer.write(b"\x16\x03\x01 this is no request\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_request_error" in answer


async def test_a_silent_connection_is_closed(gateway: Opener):
    async with gateway("http://127.0.0.1:1", GatewayLimits(idle_seconds=0.05)) as opened:
        reader, writer = await asyncio.open_unix_connection(str(opened.path))

        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_two_requests_sent_at_once_are_answered_in_order(gateway: Opener):
    async with api.MessagesApi().serve() as stub, gateway(stub.url) as opened:
        reader, writer = await asyncio.open_unix_connection(str(opened.path))
        writer.write(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\nHEAD /?second HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()

    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert [seen.target for seen in stub.seen] == ["/", "/?second"]


async def test_closing_ends_a_running_answer_and_removes_the_socket(tmp_path: Path):
    hold = api.Hold(1, asyncio.Event())
    async with api.MessagesApi(once=(hold,)).serve() as stub:
        path = tmp_path / "m.sock"
        told: list[object] = []
        door = Door(path, provider_at(stub.url, Secret("k")), lambda *counts: told.append(counts), told.append, SystemClock())
        serving = await open_gateway(door)
        async with connected(path) as agent:
            await agent.send("POST", MESSAGES, body=BODY)
            await asyncio.wait_for(stub.began.wait(), 10)
            await serving.close()
            await serving.close()
            assert not (await agent.answer()).whole

        await asyncio.wait_for(stub.hung_up.wait(), 10)
        assert not path.exists()
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("model")] == []


async def test_the_socket_is_for_its_owner_only_and_replaces_a_stale_one(tmp_path: Path):
    path = tmp_path / "m.sock"
    door = Door(path, provider_at("http://127.0.0.1:1", Secret("k")), lambda *_: None, lambda _: None, SystemClock())
    first = await open_gateway(door)
    second = await open_gateway(door)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    await second.close()
    await first.close()


async def test_a_file_in_the_sockets_place_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "m.sock"
    path.write_text("mine")
    door = Door(path, provider_at("http://127.0.0.1:1"), lambda *_: None, lambda _: None, SystemClock())

    with pytest.raises(AddressInUseError):
        await open_gateway(door)
    assert path.read_text() == "mine"


async def test_a_path_too_long_for_the_kernel_is_refused(tmp_path: Path):
    door = Door(tmp_path / ("x" * 110), provider_at("http://127.0.0.1:1"), lambda *_: None, lambda _: None, SystemClock())

    with pytest.raises(SocketPathTooLongError):
        await open_gateway(door)


async def test_tls_is_spoken_and_verified(gateway: Opener, tmp_path: Path):
    certificate, server = self_signed(tmp_path)
    async with api.MessagesApi().serve(server) as stub:
        async with gateway(provider_at(stub.url, Secret(REAL_KEY), ca_file=certificate)) as opened:
            trusted = await ask(opened.path, "POST", MESSAGES, body=BODY)
        async with gateway(stub.url) as opened:
            untrusted = await ask(opened.path, "POST", MESSAGES, body=BODY)

    assert (trusted.status, trusted.whole) == (200, True)
    assert (untrusted.status, untrusted.json()["error"]["type"]) == (502, "api_error")
    assert "certificate" in untrusted.json()["error"]["message"].lower()
    assert len(stub.seen) == 1


def test_importing_the_door_does_not_load_h11():
    script = "import sys, agent_sidecar.gateway.door; raise SystemExit('h11' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the file of a certificate for localhost, and a server's TLS settings with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    alternatives = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
