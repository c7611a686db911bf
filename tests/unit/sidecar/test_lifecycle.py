"""How an attempt ended: the decision as a table."""

from __future__ import annotations

import pytest

from agent_sidecar.drivers.driver import Answer
from agent_sidecar.isolation.interface import Cause, Exit
from agent_sidecar.run.lifecycle import Happened, Overdue, Revoked, Stopping, conclude, from_error
from agent_sidecar.run.task import Cancellation, FailureKind
from claude_conductor.errors import (
    ConductorError,
    InvalidArgumentError,
    IsolationRefusedError,
    MissingProgramError,
    SettingsError,
    StoreUnavailableError,
    WorkspaceError,
)

GOOD = Exit(Cause.EXITED, code=0)


def test_an_exit_with_0_is_success_whatever_was_said():
    assert conclude(Happened(exit=GOOD)) is None
    assert conclude(Happened(exit=GOOD, answer=Answer("done"))) is None


@pytest.mark.parametrize(
    ("happened", "kind", "says"),
    [
        (Happened(exit=Exit(Cause.EXITED, code=3)), FailureKind.EXIT_CODE, "exit code 3"),
        (Happened(exit=Exit(Cause.EXITED, code=125)), FailureKind.EXIT_CODE, "exit code 125"),
        (Happened(exit=Exit(Cause.EXITED, code=126)), FailureKind.PROGRAM_MISSING, "exit code 126: a program cannot be executed"),
        (Happened(exit=Exit(Cause.EXITED, code=127)), FailureKind.PROGRAM_MISSING, "exit code 127: a program was not found"),
        (Happened(exit=Exit(Cause.EXITED, code=128)), FailureKind.EXIT_CODE, "exit code 128"),
        (Happened(exit=Exit(Cause.SIGNALLED, signal=9)), FailureKind.SIGNAL, "SIGKILL"),
        (Happened(exit=Exit(Cause.SIGNALLED, signal=63)), FailureKind.SIGNAL, "signal 63"),
        (Happened(exit=Exit(Cause.STOPPED)), FailureKind.SIGNAL, "a signal"),
        (Happened(exit=Exit(Cause.OUT_OF_MEMORY)), FailureKind.OUT_OF_MEMORY, "--memory"),
        (Happened(exit=Exit(Cause.OUT_OF_MEMORY, detail="at 1 GiB")), FailureKind.OUT_OF_MEMORY, "at 1 GiB"),
        (Happened(exit=Exit(Cause.START_FAILED, detail="bwrap: no")), FailureKind.ISOLATION_REFUSED, "bwrap: no"),
        (Happened(exit=GOOD, answer=Answer("cannot", failed=True)), FailureKind.AGENT_REPORTED, "cannot"),
        (Happened(exit=Exit(Cause.EXITED, code=1), answer=Answer("why", failed=True)), FailureKind.AGENT_REPORTED, "why"),
        (Happened(overdue=Overdue.TASK, timeout=90), FailureKind.TIMEOUT, "1m 30s"),
        (Happened(overdue=Overdue.STARTUP, startup_timeout=2), FailureKind.STARTUP_TIMEOUT, "2.0 s"),
        (Happened(error=WorkspaceError("no"), exit=GOOD), FailureKind.WORKSPACE, "no"),
        (Happened(), FailureKind.AGENT_LOST, "without a trace"),
        (
            Happened(ending=Cancellation(1, "enough"), overdue=Overdue.TASK, error=WorkspaceError(), exit=GOOD),
            FailureKind.CANCELLED,
            "enough",
        ),
        (Happened(ending=Cancellation(1, "", FailureKind.TIMEOUT)), FailureKind.TIMEOUT, "Cancelled"),
        (Happened(ending=Stopping(), exit=Exit(Cause.STOPPED)), FailureKind.AGENT_LOST, "stopped"),
        (Happened(ending=Revoked()), FailureKind.AGENT_LOST, "somebody else"),
    ],
)
def test_what_happened_decides_the_failure(happened: Happened, kind: FailureKind, says: str):
    failure = conclude(happened)
    assert failure is not None
    assert failure.kind is kind
    assert says in failure.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WorkspaceError(), FailureKind.WORKSPACE),
        (IsolationRefusedError(), FailureKind.ISOLATION_REFUSED),
        (MissingProgramError(), FailureKind.PROGRAM_MISSING),
        (SettingsError(), FailureKind.PROGRAM_MISSING),
        (InvalidArgumentError(), FailureKind.INVALID_TASK),
        (StoreUnavailableError(), FailureKind.AGENT_LOST),
        (ConductorError(), FailureKind.AGENT_LOST),
    ],
)
def test_an_error_of_a_hook_carries_its_advice(error: ConductorError, kind: FailureKind):
    failure = from_error(error)
    assert failure.kind is kind
    assert error.next_step in failure.message


def test_an_error_after_the_start_uses_up_a_retry_and_is_no_lost_agent():
    failure = conclude(Happened(error=ConductorError("The sidecar failed."), started=True))
    assert failure is not None
    assert (failure.kind, failure.retryable) == (FailureKind.SIGNAL, True)
    assert from_error(WorkspaceError(), started=True).kind is FailureKind.WORKSPACE


def test_only_what_another_attempt_may_help_with_is_retryable():
    retryable = {kind for kind in FailureKind if from_kind(kind)}
    assert retryable == {FailureKind.EXIT_CODE, FailureKind.SIGNAL, FailureKind.STARTUP_TIMEOUT, FailureKind.AGENT_LOST}


def from_kind(kind: FailureKind) -> bool:
    failure = conclude(Happened(ending=Cancellation(0, "", kind)))
    assert failure is not None
    return failure.retryable
