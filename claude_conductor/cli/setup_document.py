"""What does `conductor start` hand to the supervisor? From resolved settings to the set-up document; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from claude_conductor.rpc.process import ALLOCATOR
from claude_conductor.settings.home import Home
from claude_conductor.settings.resolve import Resolved

_PASSED: Final = (
    *(
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "CONDUCTOR_BUBBLEWRAP",
        "PYTHONPATH",
        "PYTHONHOME",
        "LD_LIBRARY_PATH",
    ),
    *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
_PASSED_PREFIXES: Final = ("OTEL_", "GRPC_", "MALLOC_")
RESTART: Final = {"first_delay": 0.1, "max_delay": 30.0, "reset_after": 30.0}
"""Seconds: a program that ended is started again at once, one that keeps ending ever later."""


SUPERVISOR_PASSED: Final = (
    *("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "USER"),
    *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
)


def supervisor_environment(home: Home, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the supervisor's environment: what Python and systemd-run need, and whose supervisor it is."""
    return {name: environment[name] for name in SUPERVISOR_PASSED if name in environment} | {"CONDUCTOR_HOME": str(home.path)}


def programs_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what control plane and sidecars inherit of the caller's environment: never a provider's key."""
    return ALLOCATOR | {
        name: value for name, value in environment.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }


def build(resolved: Resolved, home: Home, environment: Mapping[str, str], python: str) -> dict[str, Any]:
    """Return the set-up document (`claude_conductor.supervisor.setup`).

    Args:
        resolved: Settings of each program.
        home: CONDUCTOR_HOME.
        environment: Of the caller.
        python: The interpreter that runs the programs.
    """
    inherited = programs_environment(environment) | {"CONDUCTOR_HOME": str(home.path)}
    return {
        "home": str(home.path),
        "programs": {
            "controlplane": {
                "argv": [python, "-P", "-m", "controlplane"],
                "environment": inherited,
                "settings": dict(resolved.control_plane),
            },
            "sidecars": [
                {
                    "agent_id": sidecar["agent_id"],
                    "argv": [python, "-P", "-m", "agent_sidecar"],
                    "environment": inherited,
                    "settings": dict(sidecar),
                }
                for sidecar in resolved.sidecars
            ],
        },
        "restart": dict(RESTART),
        "grace": resolved.stop_grace + 3.0,
    }
