"""What must the document say that `conductor start` hands to the supervisor?"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from claude_conductor.errors import SettingsError
from claude_conductor.supervisor.backoff import RestartPolicy

CONTROL_PLANE = "controlplane"
"""Name of the control plane's child, its log and its state."""

_AGENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Program:
    """One program to keep running."""

    name: str
    """What its log and its state are called; unique in a set-up and safe as a file name."""
    agent_id: str | None
    """The agent it is the slot of; None for the control plane."""
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """The whole environment of the program: it inherits nothing of the supervisor's."""
    settings: Mapping[str, object]
    """Handed over on a descriptor at every start, so secrets are in neither argv, environment nor files."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The set one supervisor looks after."""

    home: str
    """Absolute path of CONDUCTOR_HOME."""
    control_plane: Program | None
    """None: it is elsewhere, and the sidecars have joined it."""
    sidecars: tuple[Program, ...]
    restart: RestartPolicy
    grace: float
    """Seconds between TERM and KILL."""


def parse(text: str) -> Setup:
    """Read the set-up.

    Raises:
        SettingsError: It is not JSON, or a key is missing or of the wrong sort; the key is named with its whole path.
    """
    try:
        document: object = json.loads(text)
    except ValueError as error:
        raise SettingsError("the supervisor's set-up is not JSON", cause=error) from error
    top = _mapping(document, "the set-up")
    home = _text(top, "home", "")
    if not os.path.isabs(home):
        raise SettingsError("the supervisor's home has to be an absolute path", key="home", value=home)
    programs = _mapping(_value(top, "programs", ""), "programs")
    sidecars = tuple(
        _sidecar(each, f"programs.sidecars[{index}]") for index, each in enumerate(_list(programs, "sidecars", "programs."))
    )
    plane = _value(programs, "controlplane", "programs.")
    names = [sidecar.name for sidecar in sidecars]
    if len(set(names)) != len(names):
        raise SettingsError("two sidecars have the same agent id", key="programs.sidecars")
    restart = _mapping(_value(top, "restart", ""), "restart")
    return Setup(
        home=home,
        control_plane=None if plane is None else _program(plane, "programs.controlplane", CONTROL_PLANE, None),
        sidecars=sidecars,
        restart=RestartPolicy(
            first_delay=_seconds(restart, "first_delay", "restart."),
            max_delay=_seconds(restart, "max_delay", "restart."),
            reset_after=_seconds(restart, "reset_after", "restart."),
        ),
        grace=_seconds(top, "grace", ""),
    )


def _sidecar(value: object, where: str) -> Program:
    agent_id = _text(_mapping(value, where), "agent_id", f"{where}.")
    if not _AGENT_ID.fullmatch(agent_id):
        raise SettingsError(
            "an agent id has letters, digits, dot, dash and underscore, at most 128", key=f"{where}.agent_id", value=agent_id
        )
    return _program(value, where, f"sidecar-{agent_id}", agent_id)


def _program(value: object, where: str, name: str, agent_id: str | None) -> Program:
    program = _mapping(value, where)
    argv = _list(program, "argv", f"{where}.")
    if not argv or not all(isinstance(word, str) for word in argv):
        raise SettingsError("a command line is a list of at least one text", key=f"{where}.argv")
    environment = _mapping(_value(program, "environment", f"{where}."), f"{where}.environment")
    if not all(isinstance(each, str) for each in environment.values()):
        raise SettingsError("environment variables are texts", key=f"{where}.environment")
    return Program(
        name=name,
        agent_id=agent_id,
        argv=tuple(cast("list[str]", argv)),
        environment=cast("Mapping[str, str]", environment),
        settings=_mapping(_value(program, "settings", f"{where}."), f"{where}.settings"),
    )


def _value(mapping: Mapping[str, object], key: str, prefix: str) -> object:
    if key not in mapping:
        raise SettingsError("the supervisor's set-up lacks a key", key=f"{prefix}{key}")
    return mapping[key]


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise SettingsError("an object with keys is needed here", key=where)
    return value


def _list(mapping: Mapping[str, object], key: str, prefix: str) -> list[object]:
    value = _value(mapping, key, prefix)
    if not isinstance(value, list):
        raise SettingsError("a list is needed here", key=f"{prefix}{key}")
    return value


def _text(mapping: Mapping[str, object], key: str, prefix: str) -> str:
    value = _value(mapping, key, prefix)
    if not isinstance(value, str) or not value:
        raise SettingsError("a text is needed here", key=f"{prefix}{key}")
    return value


def _seconds(mapping: Mapping[str, object], key: str, prefix: str) -> float:
    value = _value(mapping, key, prefix)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise SettingsError("a number of seconds, 0 or more, is needed here", key=f"{prefix}{key}")
    return float(value)
