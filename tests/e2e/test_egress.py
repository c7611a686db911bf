"""What an agent at strict reaches: nothing, or exactly the hosts its task was allowed; and everybody can see which."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Installation

PIP = importlib.util.find_spec("pip")
TOOLCHAINS = sorted(
    {sys.prefix, sys.base_prefix, *(str(Path(place).parent) for place in (PIP.submodule_search_locations if PIP else ()))}
)
ASK = """
import http.client, os, socket, sys

def ask(url):
    proxy = os.environ.get("http_proxy", "")
    if not proxy:
        return "no proxy"
    connection = http.client.HTTPConnection(proxy.removeprefix("http://"), timeout=10)
    connection.request("GET", url)
    answer = connection.getresponse()
    return f"{answer.status} {answer.read().decode().strip()}"

def direct(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2)
    except OSError as error:
        return type(error).__name__
    return "open"

def resolver():
    try:
        return str(socket.getaddrinfo("example.com", 443))
    except OSError as error:
        return type(error).__name__

port = int(sys.argv[1])
for name, found in {
    "allowed": ask(f"http://LocalHost.:{port}/"),
    "by address": ask(f"http://127.0.0.1:{port}/"),
    "other port": ask(f"http://localhost:{port + 1}/"),
    "metadata": ask("http://169.254.169.254/latest"),
    "direct": direct(port),
    "resolver": resolver(),
}.items():
    print(f"{name}: {found}")
"""


@pytest.fixture
def served() -> Iterator[int]:
    """A host outside of the sandbox: a server on this machine's loopback."""

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello from outside")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever, name="host outside")
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def shown(installation: Installation, *arguments: str) -> dict[str, str]:
    """Run a task; return what its agent printed, by the word before the colon."""
    done = installation.run("run", *arguments, "-o", "json", timeout=120)
    task = json.loads(done.stdout)
    task = task[0] if isinstance(task, list) else task
    printed = installation.run("logs", task["task_id"]).stdout
    lines = dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)
    return {**lines, "id": task["task_id"], "whole": printed}


def test_an_agent_reaches_what_its_task_allows_and_nothing_else(installation: Installation, served: int, place: Path) -> None:
    program = place / "work"
    program.mkdir()
    (program / "ask.py").write_text(ASK)
    installation.start(num_agents=1, toolchains=TOOLCHAINS)
    command = ("--folder", str(program), "--cmd", f"{sys.executable} -I ask.py {served}")
    closed = shown(installation, *command)
    assert (closed["allowed"], closed["direct"], closed["resolver"]) == ("no proxy", "ConnectionRefusedError", "gaierror")

    opened = shown(installation, *command, "--allow", f"internal:localhost:{served}")
    assert opened["allowed"] == "200 hello from outside"
    assert opened["direct"] == "ConnectionRefusedError"
    assert opened["resolver"] == "gaierror"
    for refused in ("by address", "other port", "metadata"):
        assert opened[refused].startswith("403 conductor: "), opened["whole"]

    events = installation.run("events", "--task", opened["id"], "-o", "json").stdout
    told = [json.loads(line)["event"] for line in events.splitlines() if "task.egress" in line]
    assert [(each["type"], each["details"]["host"], each["details"]["connections"]) for each in told] == [
        ("task.egress_allowed", "localhost", "1"),
        ("task.egress_refused", "127.0.0.1", "1"),
        ("task.egress_refused", "localhost", "1"),
        ("task.egress_refused", "169.254.169.254", "1"),
    ]
    facts = installation.run("tasks", "show", opened["id"]).stdout
    assert f"egress_proxy(internal:localhost:{served})" in facts
    assert "169.254.169.254:80" in facts


def online(host: str) -> bool:
    try:
        socket.create_connection((host, 443), 5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("preset", "host", "program", "line", "says"),
    [
        (
            "pypi",
            "pypi.org",
            sys.executable,
            "{program} -m pip download -q --retries 0 --no-deps -d got idna==3.10 && ls got",
            "idna-3.10",
        ),
        ("npm", "registry.npmjs.org", "npm", "{program} pack --silent --fetch-retries=0 is-number@7.0.0", "is-number-7.0.0.tgz"),
    ],
)
def test_a_preset_is_what_the_real_package_manager_needs(
    installation: Installation, preset: str, host: str, program: str, line: str, says: str
) -> None:
    found = shutil.which(program)
    if found is None or not online(host):
        pytest.skip(f"{program} is not installed" if found is None else f"{host} cannot be reached from here")
    installation.start(num_agents=1, toolchains=TOOLCHAINS)
    authorities = ("PIP_CERT", "NODE_EXTRA_CA_CERTS")  # where this machine's network has an authority of its own
    own = [word for name in authorities if name in os.environ for word in ("--env", f"{name}={os.environ[name]}")]
    command = ("--cmd", line.format(program=program), *own, "--memory", "1g", "--cpus", "1")

    refused = installation.run("run", *command, "--attempts", "1", check=False, timeout=120)
    allowed = shown(installation, *command, "--allow", preset)

    assert refused.returncode == 1
    assert says in allowed["whole"]


def test_what_cannot_be_allowed_is_refused_before_anything_starts(installation: Installation) -> None:
    for wrong in ("*", "http://example.com", "example.com:0", "a b"):
        done = installation.run("run", "x", "--cmd", "true", "--allow", wrong, check=False)
        assert done.returncode == 2
        assert "--allow" in done.stderr
    assert not installation.home.joinpath("run/control.sock").exists()
