"""A second machine works for the first with one command: as two homes on loopback, and as two network namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import CONDUCTOR, Installation
from tests.fakes.control_plane import free_port

pytestmark = pytest.mark.timeout(150)


class Machine(Installation):
    """A home whose commands run in a network namespace, if it has one."""

    namespace = ""

    def run(self, *arguments: str, check: bool = True, timeout: float = 60, stdin: str = "") -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}"] if self.namespace else []
        done = subprocess.run(
            [*inside, CONDUCTOR, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=self.environment,
            input=stdin,
            cwd=self.home.parent,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        if check:
            assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done


def machine(place: Path, name: str, namespace: str = "") -> Machine:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CONDUCTOR_", "OTEL_", "ANTHROPIC_"))}
    made = Machine(place / name, {**environment, "CONDUCTOR_HOME": str(place / name), "NO_COLOR": "1"})
    made.namespace = namespace
    return made


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cc-") as path:
        yield Path(path)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two namespaces with a cable between them: 10.213.77.1 and .2."""
    names = f"cc-one-{os.getpid()}", f"cc-two-{os.getpid()}"
    ends = f"cc1x{os.getpid() % 10**7}", f"cc2x{os.getpid() % 10**7}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
            ip("-n", name, "address", "add", f"10.213.77.{number}/24", "dev", end)
            for device in ("lo", end):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def take_out(one: Machine, two: Machine) -> None:
    """Quarantine the agent; its machine does not come in again."""
    one.run("agents", "quarantine", "far-away", "--reason", "a test")
    two.run("stop")
    out = two.run("join", "--wait-timeout", "2s", check=False)
    assert out.returncode != 0
    assert "kept out" in out.stdout + out.stderr or "quarantined" in out.stderr


def look_on(one: Machine, two: Machine, place: Path, clients: str) -> None:
    """Log in as a viewer from a third home on the second machine."""
    secret = one.run("tokens", "create", "a person", "--role", "viewer").stdout.strip()
    assert one.run("tokens", "list", "-o", "json").stdout.count("a person") == 1
    third = replace(two, home=place / "three", environment={**two.environment, "CONDUCTOR_HOME": str(place / "three")})
    third.namespace = two.namespace
    third.run("login", clients, "--name", "far", stdin=secret + "\n")
    assert "far-away" in third.run("agents", "list").stdout
    refused = third.run("agents", "release", "far-away", check=False)
    assert refused.returncode == 4
    assert secret not in "".join(path.read_text() for path in one.home.rglob("*.log"))


def work_together(place: Path, host: str, one: Machine, two: Machine) -> None:
    """Start the first machine with no agent, join the second, do a task on it, and end both."""
    doors = {"sidecars": f"{host}:{free_port()}", "clients": f"{host}:{free_port()}"}
    config = place / "conductor.yaml"
    config.write_text(json.dumps({"num_agents": 1, "agent": {"workspace_isolation": "minimal"}, "listen": doors}))
    try:
        one.run("start", "--config", str(config))
        line = one.run("tokens", "create-join", "far-away", "--level", "minimal").stdout.split()
        assert line[:3] == ["conductor", "join", doors["clients"]]
        joined = two.run(*line[1:])
        assert "far-away" in joined.stdout
        again = two.run(*line[1:], check=False)
        assert again.returncode != 0
        agents = json.loads(one.run("agents", "list", "-o", "json").stdout)
        assert ("far-away", "AGENT_STATE_IDLE") in [(agent["agent_id"], agent["state"]) for agent in agents]
        done = one.run("run", "--cmd", "echo from-over-there", "--on", "far-away")
        assert "from-over-there" in done.stdout + done.stderr
        two.run("stop")
        two.run("join")  # as what it is already
        kept = two.home / "identity" / "joined.json"
        assert kept.stat().st_mode & 0o777 == 0o600
        take_out(one, two)
        look_on(one, two, place, doors["clients"])
    finally:
        for each in (two, one):
            each.run("stop", check=False)
    assert one.processes("") == []
    assert two.processes("") == []


def test_a_second_home_joins_over_loopback(place: Path) -> None:
    work_together(place, "127.0.0.1", machine(place, "one"), machine(place, "two"))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")
def test_a_machine_in_another_network_joins_over_the_cable(place: Path, namespaces: tuple[str, str]) -> None:
    one, two = (machine(place, name, namespace) for name, namespace in zip(("one", "two"), namespaces, strict=True))
    work_together(place, "10.213.77.1", one, two)


def test_wrong_ways_to_join_are_said_with_what_is_right(place: Path) -> None:
    lost = machine(place, "lost")
    for words, said in (
        (["join"], "has not joined"),
        (["join", "host:7444"], "address and a token"),
        (["join", "host:7444", "--token", "x"], "no token for"),
        (["join", "nohost", "--token", "x" * 86], "HOST:PORT"),
    ):
        done = lost.run(*words, check=False)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
    refused = lost.run("join", f"127.0.0.1:{free_port()}", "--token", "A" * 86, check=False)
    assert refused.returncode == 5, refused.stderr
