"""How do isolation levels, limits and what is in force travel?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from claude_conductor.egress import rules
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import agent_pb2 as pb
from controlplane.domain.task import IsolationLevel, IsolationStatus, ResourceLimits

LEVELS: Final = {level: pb.IsolationLevel.Value(f"ISOLATION_LEVEL_{level.name}") for level in IsolationLevel}
_LEVELS_BACK: Final[dict[int, IsolationLevel]] = {number: level for level, number in LEVELS.items()}


def level_from_proto(number: int, field: str) -> IsolationLevel | None:
    """Return the level, None for unspecified.

    Raises:
        InvalidArgumentError: There is no such level.
    """
    if number != pb.ISOLATION_LEVEL_UNSPECIFIED and number not in _LEVELS_BACK:
        raise InvalidArgumentError("This is not an isolation level.", field=field, value=number)
    return _LEVELS_BACK.get(number)


def level_to_proto(level: IsolationLevel | None) -> pb.IsolationLevel.ValueType:
    """Return the level's number; None is unspecified."""
    return pb.ISOLATION_LEVEL_UNSPECIFIED if level is None else LEVELS[level]


def limits_from_proto(limits: pb.ResourceLimits, field: str) -> ResourceLimits:
    """Return the limits.

    Raises:
        InvalidArgumentError: One of them is below 0.
    """
    if min(limits.memory_bytes, limits.cpus, limits.pids, limits.workspace_bytes) < 0:
        raise InvalidArgumentError("A limit is 0 (the agent's own) or more.", field=field)
    return ResourceLimits(limits.memory_bytes, limits.cpus, limits.pids, limits.workspace_bytes)


def allow_from_proto(allow: Sequence[str], field: str) -> tuple[str, ...]:
    """Return the hosts as they were written, since a preset may come to mean more.

    Raises:
        InvalidArgumentError: One is none.
    """
    try:
        rules(allow)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(error.message, next_step=error.next_step, field=field) from error
    return tuple(allow)


def spec_to_proto(level: IsolationLevel | None, limits: ResourceLimits, allow: Sequence[str] = ()) -> pb.IsolationSpec:
    """Return what a task or agent asks for."""
    return pb.IsolationSpec(
        level=level_to_proto(level),
        allow=allow,
        limits=pb.ResourceLimits(
            memory_bytes=limits.memory_bytes, cpus=limits.cpus, pids=limits.pids, workspace_bytes=limits.workspace_bytes
        ),
    )


def status_from_proto(status: pb.IsolationStatus) -> IsolationStatus:
    """Return what a sidecar says is in force; a level this version does not know counts as none."""
    return IsolationStatus(
        requested_level=_LEVELS_BACK.get(status.requested_level),
        effective_level=_LEVELS_BACK.get(status.effective_level),
        driver=status.driver,
        mechanisms=tuple(status.mechanisms),
        degradations=tuple(status.degradations),
    )


def status_to_proto(status: IsolationStatus) -> pb.IsolationStatus:
    """Return what is in force."""
    return pb.IsolationStatus(
        requested_level=level_to_proto(status.requested_level),
        effective_level=level_to_proto(status.effective_level),
        driver=status.driver,
        mechanisms=status.mechanisms,
        degradations=status.degradations,
    )
