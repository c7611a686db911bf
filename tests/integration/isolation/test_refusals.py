"""Each mechanism is really taken away in turn, and each level refuses or says what is weaker: table D3; nothing is silent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
WITHOUT = Path(__file__).with_name("without.py")
GROUPS = ("cgroup.memory", "cgroup.cpu", "cgroup.pids", "cgroup.kill")
BOUNDARY = ("user_namespace", "pid_namespace", "network_namespace")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an ordinary user cannot hide what a host has"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86_64: the filters that take things away know its numbers"),
]


def diagnosis(kind: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Return what `conductor doctor` is told on a host that lacks one thing."""
    done = subprocess.run(
        [sys.executable, str(WITHOUT), kind, sys.executable, "-m", "agent_sidecar.isolation.doctor"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def names(found: dict[str, Any], level: str) -> set[str]:
    return {each["name"] for each in found["levels"][level]["missing"]}


def weaker(found: dict[str, Any], level: str) -> set[str]:
    return {each.split(":")[0] for each in found["levels"][level]["weaker"]}


def check(found: dict[str, Any], lacks: set[str], refused: dict[str, set[str]], degraded: dict[str, set[str]]) -> None:
    """Compare with what is expected, and see that what lacks is refused or told at each level that wants it."""
    assert {each["name"] for each in found["mechanisms"] if each["strength"] != "yes"} - {"disk"} == lacks
    for level in ("strict", "moderate", "minimal"):
        assert names(found, level) == refused.get(level, set()), level
        assert weaker(found, level) == degraded.get(level, set()), level
        if refused.get(level):
            assert found["levels"][level]["in_force"] == []
        else:
            assert not set(found["levels"][level]["in_force"]) & lacks
    for each in found["levels"]["strict"]["missing"]:
        assert each["detail"], each
        assert each["remedy"], each


def test_a_whole_host_lacks_nothing():
    found = diagnosis("nothing")
    if names(found, "strict"):
        pytest.skip(f"this host lacks {names(found, 'strict')} to begin with")
    check(found, set(), {}, {})


SPACES = {*BOUNDARY, "nesting_off"}
CASES: dict[str, tuple[set[str], dict[str, set[str]], dict[str, set[str]]]] = {
    "user namespaces (refused)": (SPACES, {"strict": SPACES, "moderate": set(BOUNDARY)}, {}),
    "user namespaces (no room)": (SPACES, {"strict": SPACES, "moderate": set(BOUNDARY)}, {}),
    "process namespaces": ({"pid_namespace"}, {"strict": {"pid_namespace"}, "moderate": {"pid_namespace"}}, {}),
    "network namespaces": ({"network_namespace"}, {"strict": {"network_namespace"}, "moderate": {"network_namespace"}}, {}),
    "mount namespaces": (
        {*SPACES, "staging"},
        {"strict": {*SPACES, "staging"}, "moderate": {*BOUNDARY, "staging"}, "minimal": {"staging"}},
        {},
    ),
    "system call filters": ({"seccomp"}, {"strict": {"seccomp"}, "moderate": {"seccomp"}}, {"minimal": {"seccomp"}}),
    "mounts": (
        {*SPACES, "staging"},
        {"strict": {*SPACES, "staging"}, "moderate": {*BOUNDARY, "staging"}, "minimal": {"staging"}},
        {},
    ),
    "a root of its own": (
        {*SPACES, "staging"},
        {"strict": {*SPACES, "staging"}, "moderate": {*BOUNDARY, "staging"}, "minimal": {"staging"}},
        {},
    ),
    "writable groups": (set(GROUPS), {"strict": set(GROUPS)}, {"moderate": set(GROUPS), "minimal": set(GROUPS)}),
    "a known machine": (
        {"seccomp", "staging"},
        {"strict": {"seccomp", "staging"}, "moderate": {"seccomp", "staging"}, "minimal": {"staging"}},
        {},
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_what_lacks_is_refused_or_told(kind: str):
    check(diagnosis(kind), *CASES[kind])


@pytest.mark.parametrize(
    ("kind", "name"), [("memory groups", "cgroup.memory"), ("processor groups", "cgroup.cpu"), ("process groups", "cgroup.pids")]
)
def test_a_missing_controller_is_refused_at_strict_and_told_below(kind: str, name: str):
    if not Path("/sys/fs/cgroup", name.removeprefix("cgroup.")).is_mount():
        pytest.skip("needs a controller mounted as cgroup v1")
    check(diagnosis(kind), {name}, {"strict": {name}}, {"moderate": {name}, "minimal": {name}})


def test_without_no_new_privs_no_level_runs():
    found = diagnosis("no_new_privs")
    for level in ("strict", "moderate", "minimal"):
        assert "no_new_privs" in names(found, level)


def test_without_a_shell_only_the_level_without_a_self_test_runs():
    found = diagnosis("a shell")
    assert {"self_test"} <= names(found, "strict") & names(found, "moderate")


def old(folder: Path) -> Path:
    program = folder / "bwrap"
    program.write_text("#!/bin/sh\necho bubblewrap 0.3.0 --unshare-user --args --seccomp\n")
    program.chmod(0o755)
    return program


def setuid(folder: Path) -> Path:
    program = folder / "bwrap"
    shutil.copy(shutil.which("bwrap") or "/bin/true", program)
    program.chmod(0o4755)
    return program


BUBBLEWRAPS = {
    "none": (lambda folder: folder / "none", "no bwrap"),
    "setuid": (setuid, "setuid"),
    "too old": (old, "too old"),
    "no program": (lambda folder: Path("/etc/passwd"), "not executable"),
    "one that fails": (lambda folder: Path("/bin/false"), "does not run"),
}


@pytest.mark.parametrize("kind", BUBBLEWRAPS)
def test_without_a_usable_bubblewrap_the_levels_with_a_sandbox_are_refused(kind: str, tmp_path: Path):
    make, says = BUBBLEWRAPS[kind]
    found = diagnosis("nothing", {"CONDUCTOR_BUBBLEWRAP": str(make(tmp_path))})
    lacks = {"bubblewrap", *SPACES}
    check(found, lacks, {"strict": lacks, "moderate": lacks - {"nesting_off"}}, {})
    reason = next(each for each in found["levels"]["strict"]["missing"] if each["name"] == "bubblewrap")
    assert says in reason["detail"]
    assert "bubblewrap" in reason["remedy"]
