"""Which systems are measured side by side, how is each one's broker started, and what is missing here to run it?"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import RunFailedError, control_plane, end, free_port, listening, of_ours, wait_until
from controlplane.settings import GRPC_SERVER

TREE = Path(__file__).resolve().parents[1]
PEERS = Path(os.environ.get("CONDUCTOR_BENCH_PEERS") or TREE / "build" / "peers")
"""What `make bench-peers` installs."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that runs."""

    pid: int
    address: str
    """What its ends are told."""


Start = Callable[[Path, int], AbstractContextManager[Broker]]
"""Runs a broker in a folder, for so many pairs."""


@dataclass(frozen=True, slots=True)
class System:
    """One thing that relays messages, in one quality of service."""

    name: str
    quality: str
    ends: str
    """Module of its ends."""
    start: Start
    peer: str = ""
    """Name of its virtual environment; empty for what is our own."""
    most: tuple[int, int] = (40_000, 64 << 20)
    """Messages and bytes of payload it floods in one measurement, so that one takes a few seconds."""
    answers: bool = True
    """Whether there is a second process at the other end; the echo has none."""

    @property
    def python(self) -> str:
        """The interpreter its ends run on."""
        return str(PEERS / self.peer / "bin" / "python") if self.peer else sys.executable

    @property
    def environment(self) -> dict[str, str] | None:
        """What its ends start with; None for what everything here has."""
        return None if self.peer else of_ours()

    def missing(self) -> str:
        """Return what is missing to run it; empty if nothing is."""
        if not self.peer or (PEERS / self.peer / "installed").is_file():
            return ""
        return f"{self.peer} is not installed: `make bench-peers`"


def _ours(store: str, grpc_server: str) -> Start:
    @contextlib.contextmanager
    def start(place: Path, pairs: int) -> Iterator[Broker]:
        agents = [f"{side}{number}" for side in "sr" for number in range(pairs)]
        # A stream of JetStream has no bound either; how a full mailbox slows its senders is what `slow-consumer` measures.
        with control_plane(place, agents, store, grpc_server, mailbox_messages=1 << 20, mailbox_bytes=1 << 30) as process:
            yield Broker(process.pid, f"unix:{place / 'run/control.sock'}")

    return start


def _served(module: str, peer: str, address: Callable[[Path], str]) -> Start:
    @contextlib.contextmanager
    def start(place: Path, pairs: int) -> Iterator[Broker]:
        del pairs
        python = str(PEERS / peer / "bin" / "python") if peer else sys.executable
        where = address(place)
        environment = None if peer else of_ours()
        process = subprocess.Popen([python, "-m", module, "serve", f"--address={where}"], stdout=-1, cwd=TREE, env=environment)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RunFailedError("did not start; its message is above")
            yield Broker(process.pid, where)
        finally:
            end(process)
            if process.stdout is not None:
                process.stdout.close()

    return start


def _nats(sync: str) -> Start:
    """Return what starts a server whose JetStream syncs its files so often; only with `always` before it confirms."""

    @contextlib.contextmanager
    def start(place: Path, pairs: int) -> Iterator[Broker]:
        del pairs
        port, settings = free_port(), place / "nats.conf"
        settings.write_text(
            f'listen: "127.0.0.1:{port}"\nmax_payload: 4194304\nlog_file: "{place / "nats.log"}"\n'
            f'jetstream {{ store_dir: "{place}", sync_interval: "{sync}" }}\n'
        )
        process = subprocess.Popen([str(PEERS / "nats" / "bin" / "nats-server"), "--config", str(settings)])
        try:
            wait_until(process, lambda: listening(port))
            yield Broker(process.pid, f"nats://127.0.0.1:{port}")
        finally:
            end(process)

    return start


def _loopback(place: Path) -> str:
    del place
    return f"127.0.0.1:{free_port()}"


def _echo(place: Path) -> str:
    return f"unix:{place / 'echo.sock'}"


ECHO = System("echo", "ephemeral", "bench.ends.echo", _served("bench.ends.echo", "", _echo), answers=False)


def ours(grpc_server: str = GRPC_SERVER) -> dict[tuple[str, str], System]:
    """Return the control plane with each quality and store, served by this."""
    return {
        (quality, store): System(f"{quality} {store}", quality, "bench.ends.conductor", _ours(store, grpc_server))
        for quality, store in (("ephemeral", "memory"), ("durable", "memory"), ("durable", "sqlite"))
    }


def beside(grpc_server: str) -> System:
    """Return the control plane served by something else than the one that is measured."""
    return System(f"ephemeral memory, {grpc_server}", "ephemeral", "bench.ends.conductor", _ours("memory", grpc_server))


NATS = System("nats", "ephemeral", "bench.ends.nats", _nats("2m"), "nats")
JETSTREAM = System("jetstream synced", "durable", "bench.ends.nats", _nats("always"), "nats", most=(4_000, 16 << 20))
JETSTREAM_LATER = System("jetstream default", "durable", "bench.ends.nats", _nats("2m"), "nats", most=(10_000, 16 << 20))
AUTOGEN = System(
    "autogen",
    "ephemeral",
    "bench.ends.autogen",
    _served("bench.ends.autogen", "autogen", _loopback),
    "autogen",
    most=(2_000, 16 << 20),  # its queues have no bound
)
SLIM = System(
    "slim", "ephemeral", "bench.ends.slim", _served("bench.ends.slim", "slim", _loopback), "slim", most=(1_500, 4 << 20)
)
AGAINST = {
    "echo": (ECHO,),
    "nats": (NATS, JETSTREAM, JETSTREAM_LATER),
    "autogen": (AUTOGEN,),
    "slim": (SLIM,),
}
"""By the names `--against` takes."""
