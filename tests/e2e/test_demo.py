"""`make demo` as root and as an ordinary user with a private home: real work, under a minute, nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.e2e.conftest import ROOT, cgroups, need_strict

pytestmark = pytest.mark.timeout(150)

PARTS = ("review", "refactor", "tests")


def check(output: str, seconds: float) -> None:
    for part in PARTS:
        assert f"{part:9} done" in output, output
    assert "unreachable" in output.lower(), output
    assert output.count("read the operator's token: No such file") == len(PARTS), output
    assert output.count("write to the system: Read-only file system") == len(PARTS), output
    assert "REACHED" not in output
    assert "READ THE" not in output
    assert "WROTE" not in output
    assert "+from" in output or "+def" in output or "+import" in output or "+    " in output, "the patch is shown"
    assert "nothing is left behind" in output
    assert seconds < 60


def test_the_demo_does_real_work_and_leaves_nothing():
    need_strict()
    before = cgroups()
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr
    check(done.stdout, time.monotonic() - began)
    assert cgroups() <= before


def demo_of(user: tuple[int, dict[str, str]]) -> subprocess.CompletedProcess[str]:
    uid, environment = user
    return subprocess.run(
        [environment["VIRTUAL_ENV"] + "/bin/python", "-m", "examples.demo"],
        cwd=environment["CHECKOUT"],
        env=environment,
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: becomes an ordinary user")
def test_without_delegated_cgroups_an_ordinary_user_is_told_what_to_type(ordinary_user: tuple[int, dict[str, str]]):
    done = demo_of(ordinary_user)

    said = " ".join(done.stderr.split())
    assert done.returncode == 1, done.stdout + done.stderr
    assert "cannot isolate agents at level strict" in said
    assert "cgroup.memory" in said
    assert f"chown {ordinary_user[0]}" in said


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: becomes an ordinary user")
@pytest.mark.usefixtures("delegated")
def test_the_demo_runs_for_an_ordinary_user(ordinary_user: tuple[int, dict[str, str]]):
    began = time.monotonic()
    done = demo_of(ordinary_user)

    assert done.returncode == 0, done.stdout + done.stderr
    check(done.stdout, time.monotonic() - began)
