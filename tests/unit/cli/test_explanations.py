"""Every reason has a cause, a check and a fix, and every kind an exit code."""

from __future__ import annotations

from claude_conductor import errors
from claude_conductor.cli import exits
from claude_conductor.cli.explanations import EXPLANATIONS


def test_every_reason_is_explained_and_nothing_else():
    assert set(EXPLANATIONS) == {error.reason for error in errors.ALL}
    for reason, explanation in EXPLANATIONS.items():
        assert len(explanation.cause) > 20, reason
        assert len(explanation.check) > 10, reason


def test_every_kind_of_error_has_an_exit_code_of_the_documented_ones():
    assert set(exits.BY_KIND) == set(errors.Kind)
    assert set(exits.BY_KIND.values()) <= {1, 2, 3, 4, 5, 6}
    assert exits.code(errors.TaskNotFoundError()) == 3
    assert exits.code(errors.NotRunningError()) == 5
    assert exits.code(errors.SettingsError()) == 2
    assert exits.code(errors.UnauthenticatedError()) == 4
    assert exits.code(errors.DeadlineExceededError()) == 6
    assert exits.code(errors.AlreadyRunningError()) == 1
