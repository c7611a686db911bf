"""How an attempt ended, decided purely: from what happened to the failure that is reported."""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass

from agent_sidecar.drivers.driver import Answer
from agent_sidecar.isolation.interface import Cause, Exit
from agent_sidecar.run.task import Cancellation, Failure, FailureKind
from claude_conductor.errors import (
    ConductorError,
    InvalidArgumentError,
    IsolationRefusedError,
    MissingProgramError,
    SettingsError,
    WorkspaceError,
)
from claude_conductor.units import format_duration


class SetupFailedError(WorkspaceError):
    """The set-up command of the workspace failed."""

    advice = "correct it; `conductor logs TASK` shows all that it wrote"


class Phase(enum.Enum):
    """How far a run came; the order is the order of time."""

    PREPARING = "preparing"
    RUNNING = "running"
    FINISHING = "finishing"


class Overdue(enum.Enum):
    """Which bound a run went over."""

    STARTUP = "startup"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Revoked:
    """The lease was given to somebody else: the work ends without a report."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The sidecar itself is asked to end."""


Ending = Cancellation | Revoked | Stopping
"""Why a run was ended from outside."""


@dataclass(frozen=True, slots=True)
class Happened:
    """Everything that is known at the end of a run. Times in seconds."""

    ending: Ending | None = None
    overdue: Overdue | None = None
    error: ConductorError | None = None
    """What a hook raised."""
    started: bool = False
    """The agent's process had been started when it was raised."""
    exit: Exit | None = None
    answer: Answer | None = None
    over_budget: str = ""
    """What of its budget was used up, in words."""
    budget_seconds: float | None = None
    """The time of its budget; where that ends first, `timeout` is not longer."""
    timeout: float = 0.0
    startup_timeout: float = 0.0


def conclude(happened: Happened) -> Failure | None:
    """Return why the attempt failed, or None if it succeeded.

    An order from outside counts before a bound, a bound before an error, an error before how the process ended: each of the
    former causes the latter.
    """
    if happened.ending is not None:
        return _ended_from_outside(happened.ending)
    if happened.over_budget:
        return Failure(FailureKind.BUDGET, happened.over_budget)
    if happened.overdue is not None:
        return _overdue(happened)
    if happened.error is not None:
        return from_error(happened.error, started=happened.started)
    if happened.exit is None:
        return Failure(FailureKind.AGENT_LOST, "The run ended without a trace of its process.")
    return _ended_by_itself(happened.exit, happened.answer)


def from_error(error: ConductorError, *, started: bool = False) -> Failure:
    """Return the failure an error of a hook stands for.

    Once the agent has run, an error that is nobody else's ended its process and uses up a retry; as a lost agent it would be
    tried again without end.
    """
    kinds: tuple[tuple[type[ConductorError], FailureKind], ...] = (
        (SetupFailedError, FailureKind.SETUP),
        (WorkspaceError, FailureKind.WORKSPACE),
        (IsolationRefusedError, FailureKind.ISOLATION_REFUSED),
        (MissingProgramError, FailureKind.PROGRAM_MISSING),
        (SettingsError, FailureKind.PROGRAM_MISSING),
        (InvalidArgumentError, FailureKind.INVALID_TASK),
    )
    kind = next(
        (kind for reason, kind in kinds if isinstance(error, reason)), FailureKind.SIGNAL if started else FailureKind.AGENT_LOST
    )
    return Failure(kind, f"{error} - {error.next_step}")


def _ended_from_outside(ending: Ending) -> Failure:
    match ending:
        case Cancellation():
            return Failure(ending.kind, ending.reason or "Cancelled.")
        case Revoked():
            return Failure(FailureKind.AGENT_LOST, "The lease was given to somebody else.")
        case Stopping():
            return Failure(FailureKind.AGENT_LOST, "The sidecar was stopped while the task ran.")


def _overdue(happened: Happened) -> Failure:
    if happened.overdue is Overdue.STARTUP:
        bound = format_duration(happened.startup_timeout)
        return Failure(
            FailureKind.STARTUP_TIMEOUT, f"The agent did not start within {bound}; raise it with `agent.startup_timeout`."
        )
    if happened.budget_seconds is not None and happened.budget_seconds <= happened.timeout:
        bound = format_duration(happened.budget_seconds)
        return Failure(FailureKind.BUDGET, f"The {bound} that were left of its budget are used up; raise it with --budget-time.")
    return Failure(
        FailureKind.TIMEOUT, f"The task ran longer than its {format_duration(happened.timeout)}; raise it with --timeout."
    )


_NO_PROGRAM = {126: "a program cannot be executed", 127: "a program was not found"}
"""What shells, env and the like say of themselves: the next attempt would end the same way (POSIX, Exit Status for Commands)."""


def _ended_by_itself(ended: Exit, answer: Answer | None) -> Failure | None:
    failed = answer is not None and answer.failed
    match ended.cause:
        case Cause.EXITED if failed and answer is not None:
            return Failure(FailureKind.AGENT_REPORTED, answer.text[:500] or "The agent reported failure.")
        case Cause.EXITED if ended.code == 0:
            return None
        case Cause.EXITED if ended.code in _NO_PROGRAM:
            what = f"The agent's process ended with exit code {ended.code}: {_NO_PROGRAM[ended.code]}"
            return Failure(FailureKind.PROGRAM_MISSING, f"{what}; agents see their workspace, the system and `toolchains`.")
        case Cause.EXITED:
            return Failure(FailureKind.EXIT_CODE, ended.detail or f"The agent's process ended with exit code {ended.code}.")
        case Cause.OUT_OF_MEMORY:
            return Failure(FailureKind.OUT_OF_MEMORY, ended.detail or "Killed at the memory limit; raise it with --memory.")
        case Cause.START_FAILED:
            return Failure(FailureKind.ISOLATION_REFUSED, ended.detail or "The sandbox could not be entered.")
        case _:
            return Failure(FailureKind.SIGNAL, ended.detail or f"The agent's process was ended by {_signal_name(ended.signal)}.")


def _signal_name(number: int | None) -> str:
    if number is None:
        return "a signal"
    known = {each.value: each.name for each in signal.Signals}
    return known.get(number, f"signal {number}")
