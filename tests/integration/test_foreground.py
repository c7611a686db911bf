"""`conductor start --foreground`: what the first process of a container has to do, here without one."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_conductor.supervisor import control
from tests.fakes.control_plane import free_port

CONDUCTOR = str(Path(sys.executable).with_name("conductor"))


@pytest.fixture
def home() -> Iterator[Path]:
    """A short private path: pytest's own are too long for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="cf-") as path:
        yield Path(path) / "home"


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CONDUCTOR_", "OTEL_"))}
    return {
        **inherited,
        "CONDUCTOR_HOME": str(home),
        "CONDUCTOR_NUM_AGENTS": "0",
        "CONDUCTOR_LISTEN__SIDECARS": f"127.0.0.1:{free_port()}",
    }


@pytest.fixture
def front(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A control plane without agents, that stays in front."""
    with subprocess.Popen(
        [CONDUCTOR, "start", "--foreground"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            subprocess.run([CONDUCTOR, "stop"], env=environment, check=False, capture_output=True)


def until_line(process: subprocess.Popen[str], message: str) -> list[dict[str, object]]:
    """Read standard output up to the line with this message; every line has to be JSON."""
    lines = []
    assert process.stdout is not None
    for text in process.stdout:
        lines.append(json.loads(text))
        if lines[-1]["message"] == message:
            return lines
    raise AssertionError(f"{message!r} did not come: {lines} {process.stderr and process.stderr.read()}")


def eventually(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_logs_go_to_standard_output_and_term_stops_the_set_in_order(front, home):
    lines = until_line(front, "serving")
    assert {line["program"] for line in lines} >= {"controlplane"}
    eventually(lambda: control.running(str(home)))
    front.send_signal(signal.SIGTERM)
    until_line(front, "stop")
    assert front.wait(20) == 0
    assert control.running(str(home)) is None
    assert not list(home.rglob("*.sock"))


def test_stop_from_elsewhere_ends_it_with_0(front, home, environment):
    until_line(front, "serving")
    eventually(lambda: subprocess.run([CONDUCTOR, "status"], env=environment, check=False, capture_output=True).returncode == 0)
    subprocess.run([CONDUCTOR, "stop"], env=environment, check=True, capture_output=True)
    assert front.wait(20) == 0


def test_a_killed_supervisor_ends_it_with_1_and_leaves_nothing(front, home):
    until_line(front, "serving")
    eventually(lambda: control.running(str(home)))
    state = control.running(str(home))
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)
    assert front.wait(20) == 1
    plane = next(child for child in state.children if child.name == "controlplane")
    assert (
        not Path(f"/proc/{plane.pid}/cmdline").exists() or b"controlplane" not in Path(f"/proc/{plane.pid}/cmdline").read_bytes()
    )


def test_a_refused_start_ends_at_once(environment):
    environment["CONDUCTOR_LISTEN__SIDECARS"] = ""
    done = subprocess.run(
        [CONDUCTOR, "start", "--foreground"], env=environment, check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode not in (0, None)
    assert "listen.sidecars" in done.stderr


def test_an_import_says_which_of_its_keys_do_not_count_here(environment, home):
    done = subprocess.run(
        [CONDUCTOR, "config", "import"],
        env=environment,
        input="num_agents: 3\nlog_level: debug\n",
        check=True,
        capture_output=True,
        text=True,
    )
    assert "`num_agents` of the import does not count here: environment CONDUCTOR_NUM_AGENTS" in done.stderr
    assert "log_level" not in done.stderr
    assert (home / "config/config.yaml").exists()


def test_an_empty_import_shows_the_call_for_a_container(environment):
    done = subprocess.run(
        [CONDUCTOR, "config", "import"], env=environment, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "docker exec -i claude-conductor conductor config import" in done.stderr
