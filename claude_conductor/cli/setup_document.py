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
    control_plane = {
        "argv": [python, "-P", "-m", "controlplane"],
        "environment": inherited,
        "settings": dict(resolved.control_plane),
    }
    return _document(resolved, home, control_plane, [_sidecar(each, inherited, python) for each in resolved.sidecars])


def build_joined(
    resolved: Resolved, sidecar: Mapping[str, Any], home: Home, environment: Mapping[str, str], python: str
) -> dict[str, Any]:
    """Return the set-up document of a home that joined a control plane elsewhere: one sidecar, and nothing else."""
    inherited = programs_environment(environment) | {"CONDUCTOR_HOME": str(home.path)}
    return _document(resolved, home, None, [_sidecar(sidecar, inherited, python)])


def _sidecar(settings: Mapping[str, Any], environment: Mapping[str, str], python: str) -> dict[str, Any]:
    return {
        "agent_id": settings["agent_id"],
        "argv": [python, "-P", "-m", "agent_sidecar"],
        "environment": environment,
        "settings": dict(settings),
    }


def _document(
    resolved: Resolved, home: Home, control_plane: Mapping[str, Any] | None, sidecars: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "home": str(home.path),
        "programs": {"controlplane": control_plane, "sidecars": sidecars},
        "restart": dict(RESTART),
        "grace": resolved.stop_grace + 3.0,
    }
