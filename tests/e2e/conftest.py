"""A whole standalone set for a test: started by the real command line, in a private home, stopped and checked for left-overs."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from agent_sidecar.isolation.kernel import cgroup_layout
from agent_sidecar.isolation.remedy import delegation
from claude_conductor.client.sync import Conductor

CONDUCTOR = str(Path(sys.executable).with_name("conductor"))
CGROUPS = Path("/sys/fs/cgroup")
ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def strict_lacks() -> str:
    """Return what this host lacks for strict isolation of this user's agents, and what adds it; empty if nothing."""
    probe = [sys.executable, "-P", "-m", "agent_sidecar.isolation.doctor", "--json"]
    found = json.loads(subprocess.run(probe, capture_output=True, text=True, check=False, timeout=60).stdout)
    return "; ".join(f"{lack['name']}: {lack['remedy']}" for lack in found["levels"]["strict"]["missing"])


def need_strict() -> None:
    """Skip the test, visibly, where strict isolation is not possible for this user."""
    if lacks := strict_lacks():
        pytest.skip(f"no strict isolation for this user: {lacks}")


@dataclass
class Installation:
    """A home and the commands that act on it."""

    home: Path
    environment: dict[str, str]

    def run(self, *arguments: str, check: bool = True, timeout: float = 60, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `conductor` as a user would."""
        done = subprocess.run(
            [CONDUCTOR, *arguments],
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
            assert done.returncode == 0, (
                f"conductor {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
            )
        return done

    def configure(self, **settings: object) -> Path:
        """Write a settings file and return its path."""
        path = self.home.parent / "conductor.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    def start(self, *arguments: str, **settings: object) -> None:
        """Start with these settings (two agents unless they say otherwise)."""
        need_strict()
        self.run("start", "--config", str(self.configure(**{"num_agents": 2, **settings})), *arguments)

    def client(self) -> Conductor:
        """Connect as the operator."""
        return Conductor.connect(
            address=f"unix:{self.home}/run/control.sock", token=(self.home / "run/operator.token").read_text().strip()
        )

    def processes(self, word: str) -> list[psutil.Process]:
        """Return the processes of this set whose command line contains the word."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = str(self.home) in process.environ().get("CONDUCTOR_HOME", "") or str(self.home) in " ".join(
                    process.cmdline()
                )
                if ours and word in " ".join(process.cmdline()):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended while we looked, or is not ours to look at
        return found

    def logs(self) -> str:
        """Return the end of every log, for a failing test's message."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted((self.home / "logs").glob("*.log")))


def cgroups() -> set[Path]:
    """Return every cgroup of ours on this machine."""
    return {Path(folder) / name for folder, names, _ in os.walk(CGROUPS) for name in names if name.startswith("conductor-")}


def cgroups_of(home: Path) -> set[Path]:
    """Return every cgroup of a home's sidecars: their names begin with the word recorded in each slot."""
    words = {record.read_text().split()[0] for record in home.glob("sidecars/*/isolation/slot")}
    return {group for group in cgroups() if group.name.split("-")[1] in words}


def mounts(home: Path) -> set[str]:
    """Return the mounts of this machine that have to do with a home."""
    return {line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(home) in line}


def eventually(condition: Callable[[], object], seconds: float = 10, what: str = "the condition") -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def place() -> Iterator[Path]:
    """A short private path: pytest's own are too long for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="cc-") as path:
        yield Path(path)


@pytest.fixture
def installation(place: Path) -> Iterator[Installation]:
    """A home nothing runs in yet; whatever the test starts is stopped, and must leave nothing."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CONDUCTOR_", "OTEL_", "ANTHROPIC_"))
    }
    made = Installation(place / "home", {**environment, "CONDUCTOR_HOME": str(place / "home"), "NO_COLOR": "1"})
    try:
        yield made
    finally:
        made.run("stop", check=False)
    assert made.processes("") == [], "processes were left behind"
    assert cgroups_of(made.home) == set(), "cgroups were left behind"
    assert mounts(made.home) == set(), "mounts were left behind"
    assert not list(made.home.rglob("*.sock")), "sockets were left behind"


def git(repository: Path, *arguments: str) -> str:
    """Run git in a repository as somebody with a name."""
    who: Sequence[str] = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *arguments], cwd=repository, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(place: Path) -> Path:
    """A git repository with one commit."""
    path = place / "project"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "hello.txt").write_text("hello\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    return path


@pytest.fixture
def copy_of_examples(place: Path) -> Path:
    """The demo's example project as a folder."""
    return Path(shutil.copytree(ROOT / "examples/demo/repository", place / "inventory"))


@pytest.fixture(scope="session")
def ordinary_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, str]]]:
    """An ordinary user with a private home, an own checkout and an own environment; no cgroups are delegated yet.

    Only root can make one. The uid needs no entry in the password file: a home is what HOME says.
    """
    uid = 54321
    with tempfile.TemporaryDirectory(prefix="cu-") as path:
        Path(path).chmod(0o755)
        home = Path(path) / "user"
        home.mkdir(mode=0o700)
        subprocess.run(["git", "clone", "-q", str(ROOT), str(home / "checkout")], check=True)
        shutil.chown(home, uid, uid)
        subprocess.run(["chown", "-R", f"{uid}:{uid}", str(home)], check=True)
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))},
            "HOME": str(home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "CHECKOUT": str(home / "checkout"),
            "VIRTUAL_ENV": str(home / "checkout/.venv"),
            "NO_COLOR": "1",
            "LANG": "C.UTF-8",
        }
        made = subprocess.run(
            ["make", "setup", ".venv/.demo", "PYTHON=/usr/bin/python3"],
            cwd=home / "checkout",
            env=environment,
            user=uid,
            group=uid,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        yield uid, environment


@pytest.fixture
def delegated(ordinary_user: tuple[int, dict[str, str]]) -> Iterator[str]:
    """Delegate cgroups to the ordinary user by the line that `doctor` and a refusal tell an administrator to type."""
    uid, _ = ordinary_user
    layout = cgroup_layout.find(
        Path("/proc/self/mountinfo").read_text(),
        Path("/proc/self/cgroup").read_text(),
        lambda mount: (mount / "cgroup.controllers").read_text(),
    )
    line = delegation(layout, uid, systemd=False)
    subprocess.run(["/bin/sh", "-ec", line.removeprefix("sudo ")], check=True)  # sudo is not needed here
    try:
        yield line
    finally:
        for folder in CGROUPS.glob(f"*/{cgroup_layout.delegated_name(uid)}"):
            folder.rmdir()
