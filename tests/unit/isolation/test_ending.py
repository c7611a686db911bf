import signal
from dataclasses import replace

import pytest

from agent_sidecar.isolation.ending import Ending, explain, megabytes
from agent_sidecar.isolation.interface import Cause, Limits, Stats

PLAIN = Ending(status=0, stats=Stats(), limits=Limits(memory_bytes=256 << 20, cpus=0.5, pids=32), stop_asked=False)


def exited(code: int) -> int:
    return code << 8


@pytest.mark.parametrize("code", [0, 1, 125, 128, 200, 255])
def test_an_exit_code_is_an_exit(code):
    ended = explain(replace(PLAIN, status=exited(code)))
    assert (ended.cause, ended.code, ended.signal) == (Cause.EXITED, code, None)


@pytest.mark.parametrize("status", [exited(128 + signal.SIGTERM), signal.SIGTERM], ids=["reported by the sandbox", "direct"])
def test_a_signal_is_named_whether_direct_or_reported(status):
    ended = explain(replace(PLAIN, status=status))
    assert (ended.cause, ended.code, ended.signal) == (Cause.SIGNALLED, None, signal.SIGTERM)
    assert "SIGTERM" in ended.detail


def test_a_kill_at_the_memory_limit_names_limit_peak_and_flag():
    stats = Stats(memory_peak_bytes=255 << 20, oom_kills=1)
    ended = explain(replace(PLAIN, status=exited(137), stats=stats))
    assert ended.cause is Cause.OUT_OF_MEMORY
    assert ended.detail == "a process was killed at the memory limit of 256 MiB (peak 255 MiB); raise it with --memory"


def test_an_agent_that_survives_the_kill_of_its_children_is_told_of_it():
    ended = explain(replace(PLAIN, stats=Stats(oom_kills=8)))
    assert (ended.cause, ended.code) == (Cause.EXITED, 0)
    assert "8 processes were killed at the memory limit" in ended.detail


def test_a_kill_without_a_memory_kill_is_a_signal():
    assert explain(replace(PLAIN, status=signal.SIGKILL)).cause is Cause.SIGNALLED


def test_a_run_that_was_asked_to_stop_was_stopped_however_it_ended():
    for status in (exited(0), exited(3), signal.SIGKILL, exited(137)):
        assert explain(replace(PLAIN, status=status, stop_asked=True)).cause is Cause.STOPPED


def test_a_start_that_failed_says_why():
    ended = explain(replace(PLAIN, status=exited(125), start_error="bwrap: no"))
    assert (ended.cause, ended.detail) == (Cause.START_FAILED, "bwrap: no")


def test_refused_forks_and_long_waits_for_a_processor_are_told_with_their_flags():
    ended = explain(replace(PLAIN, stats=Stats(pids_refused=3, cpu_seconds=4, throttled_seconds=5)))
    assert "3 forks were refused at the limit of 32 processes" in ended.detail
    assert "--cpus" in ended.detail


def test_a_short_wait_for_a_processor_is_not_worth_a_word():
    assert explain(replace(PLAIN, stats=Stats(cpu_seconds=4, throttled_seconds=0.9))).detail == ""


@pytest.mark.parametrize(("size", "text"), [(1 << 30, "1 GiB"), (3 << 29, "1536 MiB"), (64 << 20, "64 MiB")])
def test_sizes_are_readable(size, text):
    assert megabytes(size) == text
