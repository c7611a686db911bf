"""What no agent could work on is refused before it is queued, with the field that is wrong."""

from __future__ import annotations

import pytest

from claude_conductor.errors import InvalidArgumentError
from controlplane.domain.task import ResourceLimits, Spec
from controlplane.service.intake import MIN_MEMORY, check


def test_a_memory_limit_no_program_fits_into_is_refused_and_none_at_all_is_not():
    with pytest.raises(InvalidArgumentError) as refused:
        check(Spec(driver="scripted", limits=ResourceLimits(memory_bytes=MIN_MEMORY - 1)), "", 1024)

    assert refused.value.details["field"] == "spec.isolation.limits.memory_bytes"
    check(Spec(driver="scripted", limits=ResourceLimits(memory_bytes=MIN_MEMORY)), "", 1024)
    check(Spec(driver="scripted"), "", 1024)


def test_a_command_task_without_a_command_is_told_both_ways_out():
    with pytest.raises(InvalidArgumentError, match=r"--cmd.*--agent claude-code"):
        check(Spec(driver="command"), "", 1024)
