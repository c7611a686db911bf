"""A level that is not possible is refused with what is missing and what adds it."""

from __future__ import annotations

import json
import sys

import pytest

from claude_conductor.cli.host import Probe, parse
from claude_conductor.errors import IsolationRefusedError, StartFailedError

SECCOMP = {"name": "seccomp", "strength": "no", "detail": "no filter for this machine", "remedy": "use x86_64"}
DISK = {"name": "disk", "strength": "no", "detail": "no quota", "remedy": "--disk 0"}
ANSWER = {
    "driver": "process",
    "mechanisms": [SECCOMP, DISK],
    "levels": {"strict": {"missing": [SECCOMP]}, "moderate": {"missing": []}, "minimal": {"missing": []}},
}


def test_a_refusal_names_mechanism_finding_and_remedy():
    report = parse(ANSWER)

    assert report.possible == ("moderate", "minimal")
    report.check({"moderate"})
    with pytest.raises(IsolationRefusedError) as refused:
        report.check({"moderate", "strict"})
    assert "strict" in refused.value.message
    assert refused.value.details == {"seccomp": "no filter for this machine"}
    assert refused.value.next_step == "use x86_64"


def test_what_would_be_in_force_and_what_weaker_is_told_level_by_level():
    weaker = "cgroup.cpu: processor time is not bounded"
    report = parse({**ANSWER, "levels": {"moderate": {"missing": [], "in_force": ["seccomp"], "weaker": [weaker]}}})

    assert (report.in_force["moderate"], report.weaker["moderate"]) == (("seccomp",), (weaker,))


def test_a_cap_of_the_workspace_that_nothing_enforces_is_refused_at_strict_only():
    report = parse({**ANSWER, "levels": {"strict": {"missing": []}, "minimal": {"missing": []}}})

    report.check({"strict"})
    report.check({"minimal"}, capped=True)
    with pytest.raises(IsolationRefusedError, match="strict"):
        report.check({"strict"}, capped=True)


def test_a_probe_that_fails_says_its_last_words():
    with Probe((sys.executable, "-c", f"print('''{json.dumps(ANSWER)}''')")) as probe:
        assert probe.report().driver == "process"
    with (
        Probe((sys.executable, "-c", "import sys; sys.exit('no bubblewrap at all')")) as probe,
        pytest.raises(StartFailedError) as failed,
    ):
        probe.report()
    assert "no bubblewrap at all" in str(failed.value)
