"""A control plane over a real Redis server: what it refuses at start, and what it keeps when either of the two is killed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from claude_conductor.v1 import admin_service_pb2, task_pb2, task_service_pb2
from tests.fakes.control_plane import ControlPlane
from tests.fakes.redis_server import SECONDS, RedisServer, needs_redis, running

pytestmark = needs_redis
EX_TEMPFAIL, EX_CONFIG = 75, 78


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running() as started:
        yield started


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[ControlPlane] = []

    def build(store: str, name: str = "h", **settings: Any) -> ControlPlane:
        made.append(ControlPlane(tmp_path / name, store=store, **settings))
        return made[-1]

    yield build
    for one in made:
        await one.close()


def refused(plane: ControlPlane, code: int = EX_CONFIG) -> str:
    """Return what a control plane says that does not start."""
    assert plane.spawn().wait(SECONDS) == code, plane.log()
    assert "Traceback" not in plane.log()
    return plane.log()


class TestRefusedAtStart:
    """Each with the reason and what to do."""

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("redis://", "no host"),
            ("redis://host:notaport", "port"),
            ("redis://host/words", "database is no number"),
            ("redis://host?wait=1", "no option `wait`"),
            ("redis://user:hunter2@host", "password_file"),
            ("redis://host?password_file=/nowhere/at/all", "/nowhere/at/all"),
            ("rediss://host?ca_file=/nowhere", "ca_file"),
            ("rediss://host?cert_file=/etc/hostname", "key_file"),
            ("unix://relative/path", "not absolute"),
            ("unix:///x?prefix={a}", "prefix"),
        ],
    )
    async def test_an_address_that_cannot_be_used(self, make: Any, url: str, words: str) -> None:
        said = refused(make(url))
        assert words in said
        assert "redis://host:6379/0" in said
        assert "hunter2" not in said

    async def test_a_server_that_is_not_there_may_come_back(self, make: Any, tmp_path: Path) -> None:
        assert "see that it runs" in refused(make(f"unix://{tmp_path}/nobody.sock"), EX_TEMPFAIL)

    async def test_a_wrong_password_no_password_and_one_that_others_can_read(
        self, make: Any, redis: RedisServer, tmp_path: Path
    ) -> None:
        assert redis.ask("CONFIG", "SET", "requirepass", "right") == b"+OK\r\n"
        assert "password_file" in refused(make(redis.url))
        file = tmp_path / "password"
        file.write_text("hunter2\n")
        assert "chmod 600" in refused(make(f"{redis.url}?password_file={file}"))
        file.chmod(0o600)
        said = refused(make(f"{redis.url}?password_file={file}"))
        assert "refuses the user name or the password" in said
        assert "hunter2" not in said
        file.write_text("right\n")
        await make(f"{redis.url}?password_file={file}", "right").start()

    @pytest.mark.parametrize(
        ("setting", "value", "words"),
        [
            ("maxmemory-policy", "allkeys-lru", ("drops tasks and messages", "noeviction")),
            ("appendonly", "no", ("forgets what it acknowledged", "appendonly yes")),
            ("appendfsync", "everysec", ("not on disk yet", "appendfsync always", "?sync=everysec")),
        ],
    )
    async def test_a_server_that_would_lose_what_it_acknowledged(
        self, make: Any, redis: RedisServer, setting: str, value: str, words: tuple[str, ...]
    ) -> None:
        assert redis.ask("CONFIG", "SET", setting, value) == b"+OK\r\n"
        said = refused(make(redis.url))
        assert all(word in said for word in words)

    async def test_a_replica(self, make: Any, redis: RedisServer) -> None:
        assert redis.ask("REPLICAOF", "127.0.0.1", "1") == b"+OK\r\n"
        assert "name its master, 127.0.0.1:1" in refused(make(redis.url))

    async def test_a_node_of_a_cluster(self, make: Any) -> None:
        with running("--cluster-enabled", "yes") as node:
            assert "Cluster" in refused(make(node.url))

    async def test_a_user_who_may_not_do_what_the_store_does(self, make: Any, redis: RedisServer, tmp_path: Path) -> None:
        assert redis.ask("ACL", "SETUSER", "narrow", "on", ">secret", "~*", "+info") == b"+OK\r\n"
        file = tmp_path / "password"
        file.write_text("secret")
        file.chmod(0o600)
        said = refused(make(redis.url.replace("unix://", "unix://narrow@") + f"?password_file={file}"))
        assert "may not do" in said

    async def test_what_a_newer_version_wrote(self, make: Any, redis: RedisServer) -> None:
        assert redis.ask("SET", "conductor:{g}:format", "2") == b"+OK\r\n"
        assert "newer version" in refused(make(redis.url))

    async def test_a_second_control_plane_until_the_first_has_stopped(self, make: Any, redis: RedisServer) -> None:
        first = make(redis.url)
        await first.start()
        said = refused(make(redis.url, "other"))
        assert "Another control plane uses this store" in said
        assert f"pid {first.process.pid}" in said
        await make(redis.url + "?prefix=apart", "apart").start()
        assert first.terminate() == 0
        await make(redis.url, "other").start()


async def submitted(operator: Any, count: int) -> list[str]:
    """Submit until the store fails, or so many; return what was acknowledged."""
    acknowledged: list[str] = []
    at_once = asyncio.Semaphore(50)  # the server takes about a hundred streams of one connection

    async def one(number: int) -> None:
        async with at_once:
            acknowledged.append((await operator.submit(f"key-{number}")).task_id)

    outcomes = await asyncio.gather(*(one(number) for number in range(count)), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            assert isinstance(outcome, grpc.aio.AioRpcError)
            assert outcome.code() is grpc.StatusCode.UNAVAILABLE, outcome
    return acknowledged


async def stored(operator: Any) -> set[str]:
    found: set[str] = set()
    token = ""
    while True:
        page = await operator.tasks.ListTasks(task_service_pb2.ListTasksRequest(page_size=500, page_token=token), **operator.call)
        found |= {task.task_id for task in page.tasks}
        token = page.next_page_token
        if not token:
            return found


async def test_a_control_plane_that_was_killed_finds_everything_again_at_once(make: Any, redis: RedisServer) -> None:
    plane = make(redis.url)
    await plane.start()
    first = await submitted(plane.operator(), 50)
    plane.kill()
    await plane.start()
    operator = plane.operator()
    assert await stored(operator) == set(first)
    assert (await operator.submit("key-7")).task_id in first
    status = await operator.admin.GetStatus(admin_service_pb2.GetStatusRequest(), **operator.call)
    assert status.store == redis.url


async def test_redis_killed_under_load_loses_nothing_acknowledged_and_is_used_again(make: Any, redis: RedisServer) -> None:
    plane = make(redis.url)
    await plane.start()
    operator = plane.operator()
    begun = asyncio.ensure_future(submitted(operator, 1000))
    async with asyncio.timeout(SECONDS):
        while len(await stored(operator)) < 100:
            pass
    redis.stop(signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stored(operator)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    redis.start()
    acknowledged = await begun
    assert acknowledged
    assert await stored(operator) >= set(acknowledged)
    again = await submitted(operator, 1000)
    assert len(set(again)) == 1000
    assert set(again) >= set(acknowledged)
    assert await stored(operator) == set(again)
    assert plane.process.poll() is None


async def test_a_redis_that_is_frozen_costs_time_and_nothing_else(make: Any, redis: RedisServer) -> None:
    plane = make(redis.url)
    await plane.start()
    operator = plane.operator()
    redis.send(signal.SIGSTOP)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await operator.submit("frozen")
        assert refusal.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    finally:
        redis.send(signal.SIGCONT)
    task = await operator.submit("frozen")
    assert await stored(operator) == {task.task_id}
    assert task.state == task_pb2.TASK_STATE_QUEUED


async def test_a_control_plane_whose_store_was_taken_over_stops(make: Any, redis: RedisServer) -> None:
    plane = make(redis.url)
    await plane.start()
    await plane.operator().submit("one")
    redis.ask("HSET", "conductor:{g}:owner", "home", "another", "life", "1", "words", "pid 1 elsewhere")
    with contextlib.suppress(ProcessLookupError):
        os.kill(plane.process.pid, 0)
    assert await asyncio.to_thread(plane.process.wait, SECONDS) == 0
    assert "taken the store over" in plane.log()


class TestEncrypted:
    """TLS, with a server whose certificate is checked."""

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """A certificate for 127.0.0.1 that signed itself, and its key beside it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis of a test")])
        now = dt.datetime.now(dt.UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        plain = serialization.NoEncryption()
        (tmp_path / "key.pem").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )
        (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return tmp_path / "cert.pem"

    async def test_only_a_server_whose_certificate_is_believed_is_talked_to(self, make: Any, certificate: Path) -> None:
        port = free_port()
        files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(certificate.with_name("key.pem")))
        with running("--tls-port", str(port), *files, "--tls-auth-clients", "no"):
            assert "ertificate" in refused(make(f"rediss://127.0.0.1:{port}"))
            assert "ertificate" in refused(make(f"rediss://localhost:{port}?ca_file={certificate}", "by-name"))
            plane = make(f"rediss://127.0.0.1:{port}?ca_file={certificate}", "believed")
            await plane.start()
            await plane.operator().submit("over TLS")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
