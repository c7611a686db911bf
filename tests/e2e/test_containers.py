"""The image and the Compose file on a real engine: a private dockerd, and an image built without registry and network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, eventually

pytestmark = [pytest.mark.timeout(400), pytest.mark.root]
PREPARED = ROOT / ".cache/containers"
IMAGE = "claudeconductor/claude-conductor:latest"
NAME = "claude-conductor"
START = """
mount -t tmpfs tmpfs /run
ip link set lo up
exec dockerd --data-root "$1/data" --exec-root /run/docker --pidfile "$1/docker.pid" -H "unix://$1/docker.sock"
"""


@dataclass
class Engine:
    """A dockerd that nobody else sees."""

    environment: dict[str, str]

    def run(self, *words: str, stdin: str = "", check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=self.environment,
            cwd=ROOT,
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def docker(self, *words: str, stdin: str = "", check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        # Debian's own command is able to build on Debian's daemon; a newer one on PATH may lack its builder.
        own = "/usr/bin/docker"
        return self.run(own if os.access(own, os.X_OK) else "docker", *words, stdin=stdin, check=check, timeout=timeout)

    def compose(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("docker-compose", "-f", "docker-compose.standalone.yml", *words, timeout=120)

    def state(self) -> dict[str, object]:
        answer = json.loads(self.docker("inspect", NAME).stdout)[0]["State"]
        assert isinstance(answer, dict)
        return answer

    def healthy(self) -> bool:
        return self.state().get("Health", {}).get("Status") == "healthy"  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    path = os.environ["PATH"] + ":/usr/sbin"
    lacks = [name for name in ("dockerd", "docker-compose", "unshare") if shutil.which(name, path=path) is None]
    if os.geteuid() != 0 or lacks:
        pytest.skip(f"a private container engine needs root and {', '.join(lacks) or 'its programs'}: install_test_packages.sh")
    if not (PREPARED / "wheels.sum").exists():
        pytest.skip("no base for the image: tools/prepare_containers.sh makes it")
    with tempfile.TemporaryDirectory(prefix="ce-") as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "CONDUCTOR_", "COMPOSE_"))},
            "PATH": path,
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "DOCKER_BUILDKIT": "1",
        }
        made = Engine(environment)
        with (Path(folder) / "log").open("w") as log:
            daemon = subprocess.Popen(
                ["unshare", "-n", "-m", "/bin/sh", "-c", START, "dockerd", folder], env=environment, stdout=log, stderr=log
            )
        try:
            eventually(
                lambda: made.docker("version", check=False).returncode == 0 or daemon.poll() is not None,
                30,
                "the engine's answer",
            )
            if daemon.poll() is not None:
                pytest.skip(f"dockerd does not run on this machine: {(Path(folder) / 'log').read_text()[-500:]}")
            yield made
        finally:
            daemon.terminate()
            daemon.wait(30)


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    engine.docker("import", str(PREPARED / "base.tar"), "conductor-base:local", timeout=120)
    arguments = {
        "BASE": "conductor-base:local",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/source/.cache/containers/wheels",
    }
    build = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    engine.docker("build", "--network=none", *build, "-t", IMAGE, ".", timeout=300)
    return IMAGE


@pytest.fixture(scope="module")
def running(engine: Engine, image: str) -> Iterator[Engine]:
    engine.compose("up", "-d")
    try:
        eventually(engine.healthy, 30, "a healthy container")
        yield engine
    finally:
        engine.compose("down", "-v")
    assert engine.docker("ps", "-aq").stdout == ""
    assert not {"conductor_data", "conductor_logs", "conductor_workspace"} & set(
        engine.docker("volume", "ls", "-q").stdout.split()
    )


def test_the_image_is_what_it_says(engine: Engine, image: str):
    config = json.loads(engine.docker("inspect", image).stdout)[0]["Config"]
    assert config["User"] == "1000:1000"
    assert config["Labels"]["org.opencontainers.image.title"] == "Claude Conductor"
    assert config["Healthcheck"]["Test"][-1].startswith("conductor status")
    found = engine.docker(
        "run", "--rm", "--network=none", "--entrypoint", "/bin/sh", image, "-c", "command -v pip gcc make; id -u"
    )
    assert found.stdout.split() == ["1000"], "a build tool is in the image"
    modules = engine.docker("run", "--rm", "--entrypoint", "/opt/conductor/bin/python", image, "-c", "import pip", check=False)
    assert "No module named 'pip'" in modules.stderr


def test_compose_brings_up_a_control_plane_within_its_bounds(running: Engine):
    status = running.docker("exec", NAME, "conductor", "status", "-o", "json").stdout
    assert json.loads(status)["store"] == "sqlite"
    host = json.loads(running.docker("inspect", NAME).stdout)[0]["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["ReadonlyRootfs"], host["CapDrop"]) == (2 * 10**9, 2 << 30, True, ["ALL"])
    assert running.docker("exec", NAME, "touch", "/x", check=False).returncode != 0
    assert "no-new-privileges:true" in host["SecurityOpt"]


def test_what_it_logs_is_json_on_standard_output_and_in_files(running: Engine):
    lines = [json.loads(line) for line in running.docker("logs", NAME).stdout.splitlines()]
    assert {"controlplane", "supervisor"} <= {line["program"] for line in lines}
    assert "controlplane.log" in running.docker("exec", NAME, "ls", "/var/log/conductor").stdout


def test_an_agent_joins_over_the_network_and_does_a_task(running: Engine):
    """Another container stands for another machine; minimal is all that one can isolate."""
    made = running.docker("exec", NAME, "conductor", "tokens", "create-join", "reviewer", "--level", "minimal").stdout
    token = re.search(r"--token (\S+)", made)
    assert token, made
    join = f"conductor join {NAME}:7444 --token {token[1]} && exec sleep 300"
    running.docker("run", "-d", "--name", "reviewer", "--network", "claude-network", "--entrypoint", "/bin/sh", IMAGE, "-c", join)
    try:
        eventually(
            lambda: "idle" in running.docker("exec", NAME, "conductor", "agents", "list").stdout,
            60,
            f"an agent that has joined: {running.docker('logs', 'reviewer').stderr}",
        )
        done = running.docker("exec", NAME, "conductor", "run", "--level", "minimal", "--cmd", "echo from-over-there", timeout=90)
        assert "from-over-there" in done.stdout + done.stderr
    finally:
        running.docker("rm", "-f", "reviewer")


def test_an_import_needs_exec_i_and_says_so(running: Engine):
    without = running.docker("exec", NAME, "conductor", "config", "import", stdin="log_level: debug\n", check=False)
    assert without.returncode == 2
    assert "docker exec -i claude-conductor" in without.stderr
    taken = running.docker("exec", "-i", NAME, "conductor", "config", "import", stdin="num_agents: 2\nlog_level: debug\n")
    assert "2 settings are in /var/lib/conductor/config/config.yaml" in taken.stdout
    assert "`num_agents` of the import does not count here" in taken.stderr


def test_a_killed_control_plane_and_a_killed_container_come_back(running: Engine):
    state = json.loads(running.docker("exec", NAME, "cat", "/var/lib/conductor/run/supervisor.json").stdout)
    pid = next(child["pid"] for child in state["children"] if child["name"] == "controlplane")
    running.docker("exec", NAME, "python3", "-c", f"import os; os.kill({pid}, 9)")
    eventually(
        lambda: running.docker("exec", NAME, "conductor", "status", check=False).returncode == 0, 30, "a new control plane"
    )
    running.docker("exec", NAME, "python3", "-c", f"import os; os.kill({state['pid']}, 9)", check=False)
    eventually(
        lambda: json.loads(running.docker("inspect", NAME).stdout)[0]["RestartCount"] == 1 and running.healthy(),
        60,
        "the restarted container",
    )


def test_stop_is_orderly(running: Engine):
    running.docker("stop", NAME)
    assert running.state()["ExitCode"] == 0
    running.docker("start", NAME)
