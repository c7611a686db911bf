"""What an idle sidecar must not have loaded: every fleet pays for it once per agent."""

import subprocess
import sys

import pytest

UNWANTED = {
    "uvloop": "2.3 MB, and no gain for one session (docs/design/performance.md)",
    "_hashlib": "OpenSSL's hashes, 0.8 MB: loaded when a patch is made",
    "ctypes": "the launcher's, which is a process of its own",
    "difflib": "for advice on a mistake only",
    "shutil": "three compression libraries, 0.5 MB: trees are removed without it",
    "argparse": "1.2 MB, for one option",
    "pwd": "name services, 0.5 MB: getent(1) is asked instead",
    "opentelemetry": "loaded when spans are exported",
    "h11": "loaded when an agent calls its model",
    "cryptography": "a sidecar on the Unix socket has no certificate",
    "yaml": "the sidecar is handed resolved settings",
    "pydantic": "the sidecar is handed resolved settings",
    "typer": "the command line's",
    "rich": "the command line's",
    "agent_sidecar.isolation.launcher": "started, never imported",
}


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    program = "import sys, agent_sidecar.__main__, agent_sidecar.isolation.process_driver, agent_sidecar.app; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return frozenset(found.stdout.split())


@pytest.mark.parametrize("module", UNWANTED)
def test_an_idle_sidecar_does_not_load(module: str, loaded: frozenset[str]) -> None:
    assert "grpc" in loaded
    assert module not in loaded, UNWANTED[module]


def test_both_ends_of_the_launcher_agree_on_the_size_of_a_datagram() -> None:
    from agent_sidecar.isolation import launcher, launcher_client

    assert launcher_client.ORDER_LIMIT == launcher.ORDER_LIMIT
    assert launcher_client.PROGRAM.samefile(launcher.__file__)
