"""Small rules: pauses, rates, stalls, names, texts, settings that contradict each other, and what becomes of an assignment."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent_sidecar.drivers.driver import Answer, Progress, TokenUse
from agent_sidecar.gateway.price import Price
from agent_sidecar.gateway.usage import Usage as Answered
from agent_sidecar.isolation.interface import Level, Limits, Stats
from agent_sidecar.run.folders import Folders, check
from agent_sidecar.run.hook import Run
from agent_sidecar.run.hooks.output import PIECE_BYTES, Pump
from agent_sidecar.run.hooks.usage import UsageHook, usage_of
from agent_sidecar.run.hooks.watchdog import stalled
from agent_sidecar.run.life import Life, why
from agent_sidecar.run.rate import Bucket
from agent_sidecar.run.spending import Spent, spent_more
from agent_sidecar.run.task import Assignment, FolderSource, GitSource, InForce, Lease, LimitsAsked, Result, Usage
from agent_sidecar.run.text import cut, one_line
from agent_sidecar.settings import Settings
from agent_sidecar.uplink import convert
from agent_sidecar.uplink.reconnect import pause
from claude_conductor.clock import SystemClock
from claude_conductor.errors import InvalidArgumentError, SettingsError
from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.v1 import session_service_pb2 as pb


class HandClock:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def test_the_pause_between_connections_grows_to_a_second_and_is_never_below_50_ms():
    assert [pause(failures, lambda: 1.0) for failures in (1, 2, 3, 4, 5, 100)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert pause(100, lambda: 0.0) == 0.05


def test_a_bucket_allows_its_burst_then_its_rate():
    clock = HandClock()
    bucket = Bucket(10, 20, clock)
    assert [bucket.allows(10) for _ in range(3)] == [True, True, False]
    clock.time += 1
    assert bucket.allows(10)
    assert bucket.take(5) == 0.5
    clock.time += 100
    assert bucket.take(20) == 0.0


def make_run(**more: object) -> Run:
    run = Run(Assignment(Lease("task_1", 1, 1), "task/task_1"), "run", Level.STRICT, Limits(), 100.0)
    for name, value in more.items():
        setattr(run, name, value)
    return run


def test_a_run_is_stalled_by_silence_but_not_while_its_provider_pauses():
    assert not stalled(make_run(life=Life(100.0)), 109.0, 5.0)
    assert stalled(make_run(life=Life(100.0)), 110.0, 5.0)
    assert not stalled(make_run(life=Life(100.0)), 110.0, 6.0)
    assert not stalled(make_run(life=Life(100.0), limited_until=120.0), 110.0, 5.0)


def test_an_agent_that_waits_for_an_answer_is_not_silent():
    clock, life = HandClock(), Life()
    with life.calling(clock):
        clock.time += 60
        assert not life.silent(clock.time, 5.0)
    assert not life.silent(clock.time + 9, 5.0)
    assert life.silent(clock.time + 10, 5.0)


def test_why_an_agent_is_stalled_names_since_when_and_does_not_change_while_it_is():
    clock = HandClock()
    life = Life(clock.time)
    clock.time += 70
    said = why("call", life, clock, 30.0)
    assert said == "no call since 00:01:40 UTC, over 2 health check intervals of 30.0 s"
    clock.time += 30
    assert why("call", life, clock, 30.0) == said


PRICES = {"fast*": Price(1, 5, 0.1, 2), "fast-2": Price(2, 10, 0, 0), "*": Price(0, 0, 0, 0)}


def test_what_the_gateway_counts_is_priced_by_model_and_counts_before_what_the_agent_says():
    clock = HandClock()
    clock.time = 107.5
    spent: Spent = {}
    for answer in (Answered(1_000_000, 200_000, 0, 0, "fast-1"), Answered(0, 0, 1_000_000, 500_000, "fast-1")):
        spent = spent_more(spent, answer, PRICES)
    spent = spent_more(spent, Answered(500_000, 100_000, 7, 7, "fast-2"), PRICES)

    told = usage_of(make_run(spent=spent, tokens=TokenUse(5, 6, turns=2, cost_usd=77)), clock)

    assert [(each.model, each.turns, round(each.cost_usd, 6)) for each in told.models] == [("fast-1", 2, 3.1), ("fast-2", 1, 2.0)]
    assert (told.input_tokens, told.output_tokens, told.cache_read_tokens) == (1_500_000, 300_000, 1_000_007)
    assert (round(told.cost_usd, 6), told.unpriced_tokens, told.turns, told.wall_seconds) == (5.1, 0, 2, 7.5)


def test_tokens_without_a_price_are_counted_as_such_and_cost_nothing_silently():
    clock = HandClock()
    table = {"fast*": PRICES["fast*"]}
    spent = spent_more(spent_more({}, Answered(10, 20, 30, 40, "slow"), table), Answered(1_000_000, 0, 0, 0, "fast"), table)
    told = usage_of(make_run(spent=spent), clock)
    assert (told.cost_usd, told.unpriced_tokens) == (1.0, 100)
    assert usage_of(make_run(spent=spent_more({}, Answered(1, 2, 3, 4), PRICES)), clock).unpriced_tokens == 10, (
        "no name, no price"
    )


def test_an_agent_that_tells_tokens_and_no_cost_has_an_unknown_one():
    clock = HandClock()
    assert usage_of(make_run(tokens=TokenUse(5, 6, 7, 8)), clock).unpriced_tokens == 26
    assert usage_of(make_run(tokens=TokenUse(5, 6, 7, 8, cost_usd=0.5)), clock).unpriced_tokens == 0
    assert usage_of(make_run(), clock).unpriced_tokens == 0


class Used:
    """As much of reports as the hook tells, and of a process as it asks."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Usage] = asyncio.Queue()
        self.looks: asyncio.Queue[None] = asyncio.Queue()

    async def used(self, lease: Lease, usage: Usage) -> None:
        assert lease == Lease("task_1", 1, 1)
        self.told.put_nowait(usage)

    async def stats(self) -> Stats:
        self.looks.put_nowait(None)
        return Stats()


async def test_what_models_used_is_told_before_the_end_and_only_when_it_grew():
    told = Used()
    run = make_run(handle=told)
    hook = UsageHook(told, SystemClock(), every=0.001, told_every=0.01)  # type: ignore[arg-type]
    during = asyncio.create_task(hook.during(run), name="during")
    async with asyncio.timeout(10):
        for turns in (1, 2):
            run.spent = spent_more(run.spent, Answered(1, 2, 3, 4, "fast-1"), PRICES)
            assert (await told.told.get()).models[0].turns == turns
        for _ in range(told.looks.qsize() + 30):
            await told.looks.get()
    assert told.told.empty()
    during.cancel()


@pytest.mark.parametrize(("text", "size", "short"), [("abc", 3, "abc"), ("aäb", 2, "a"), ("aäb", 3, "aä"), ("", 5, "")])
def test_a_text_is_cut_between_characters(text: str, size: int, short: str):
    assert cut(text, size) == short


def test_progress_is_one_line_of_at_most_1_kib():
    assert one_line(" a\n\n b\tc ") == "a b c"
    assert len(one_line("x" * 5000)) == 1024


class Recorder:
    """Reports that are kept."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.pieces: list[tuple[str, int, bytes]] = []
        self.lines: list[str] = []

    async def started(self, lease: Lease, in_force: InForce) -> None: ...

    async def progress(self, lease: Lease, text: str, usage: Usage) -> None:
        self.lines.append(text)

    async def output(self, lease: Lease, stream: str, offset: int, data: bytes) -> bool:
        self.pieces.append((stream, offset, data))
        return not self.full

    async def completed(self, lease: Lease, result: Result) -> None: ...


class Parser:
    """Shows everything in capitals, and holds back the last byte."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, chunk: bytes) -> tuple[bytes, list[Progress | TokenUse | Answer]]:
        whole = self.held + chunk
        self.held = whole[-1:]
        return whole[:-1].upper(), [Progress("p"), TokenUse(input_tokens=len(whole))]

    def finish(self) -> tuple[bytes, list[Progress | TokenUse | Answer]]:
        return self.held.upper(), [Answer("the end")]


async def test_output_is_shown_as_the_parser_says_in_pieces_with_one_count_for_both_streams():
    run, reports = make_run(), Recorder()
    pump = Pump(run, Parser(), reports, HandClock(), 1e9)
    await pump.take("stdout", b"abc")
    await pump.take("stderr", b"oops")
    await pump.take("stdout", b"d" * (PIECE_BYTES + 1))
    await pump.end()
    assert reports.pieces[:2] == [("stdout", 0, b"AB"), ("stderr", 2, b"oops")]
    assert [(offset, len(data)) for _, offset, data in reports.pieces[2:]] == [
        (6, PIECE_BYTES),
        (6 + PIECE_BYTES, 1),
        (7 + PIECE_BYTES, 1),
    ]
    assert run.answer == Answer("the end")
    assert run.tokens.input_tokens == PIECE_BYTES + 2
    assert run.warnings == []


async def test_progress_beyond_its_rate_is_dropped_and_dropped_output_is_said():
    run, reports = make_run(), Recorder(full=True)
    pump = Pump(run, Parser(), reports, HandClock(), 1e9)
    for _ in range(30):
        await pump.take("stdout", b"x")
    await pump.end()
    assert len(reports.lines) == 10
    assert run.warnings[0].startswith("30 bytes of live output were dropped")


def settings(tmp_path: Path, **changes: object) -> Settings:
    return replace(Settings(home=tmp_path, agent_id="agent-1", control_plane="unix:x"), **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agent_isolation": False}, "agent_isolation"),
        ({"agent_isolation": False, "level": Level.MODERATE}, "agent_isolation"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(tmp_path: Path, changes: dict[str, object], says: str):
    with pytest.raises(SettingsError, match=says):
        check(settings(tmp_path, **changes))


def test_an_agent_id_that_could_name_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(InvalidArgumentError):
        check(settings(tmp_path, agent_id="../x"))


def test_settings_that_fit_are_taken(tmp_path: Path):
    check(settings(tmp_path))
    check(settings(tmp_path, agent_isolation=False, level=Level.MINIMAL, temp_path=tmp_path / "temp"))
    assert (tmp_path / "temp").stat().st_mode & 0o777 == 0o700


def test_a_temporary_folder_behind_a_link_is_refused(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SettingsError, match="temp_path"):
        check(settings(tmp_path, temp_path=tmp_path / "link"))


def test_a_temporary_folder_of_somebody_else_or_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="temp_path"):
        check(settings(tmp_path, temp_path=tmp_path / "file"))
    foreign = tmp_path / "foreign" if os.geteuid() == 0 else Path("/")
    foreign.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(foreign, 61111, 61111)
    with pytest.raises(SettingsError, match="another user"):
        check(settings(tmp_path, temp_path=foreign))


def test_agents_that_share_the_folder_of_workspaces_have_a_home_of_their_own(tmp_path: Path):
    shared = {"agent_isolation": False, "level": Level.MINIMAL}
    one, other = (Folders.of(settings(tmp_path, agent_id=name, **shared)) for name in ("one", "other"))
    assert one.places.workspaces == other.places.workspaces
    assert one.home != other.home
    assert one.home.parent == one.places.workspaces


def test_settings_decide_where_files_go(tmp_path: Path):
    plain = Folders.of(settings(tmp_path))
    assert plain.places.workspaces == tmp_path / "workspace/agent-1"
    assert plain.sockets == tmp_path / "run/agents/agent-1"
    changed = Folders.of(
        settings(tmp_path, workspace_path=tmp_path / "w", temp_path=tmp_path / "t", agent_isolation=False, level=Level.MINIMAL)
    )
    assert changed.places.workspaces == tmp_path / "w/shared"
    assert changed.places.stores == tmp_path / "t/agent-1"


def test_an_assignment_keeps_what_the_task_asks_for():
    spec = task_pb2.TaskSpec(
        driver="claude_code",
        prompt="do it",
        timeout={"seconds": 90},
        isolation={"level": agent_pb2.ISOLATION_LEVEL_MINIMAL, "limits": {"memory_bytes": 7}},
        workspace={"git": {"repository": "/r", "ref": "main"}},
        max_turns=3,
    )
    lease = task_pb2.Lease(task_id="task_1", attempt=2, epoch=2**64 - 1)
    made = convert.assignment_from(pb.TaskAssignment(lease=lease, spec=spec, tenant_id="t"))
    assert made.lease == Lease("task_1", 2, 2**64 - 1)
    assert convert.lease_to(made.lease) == lease
    assert made.mailbox == "task/task_1"
    assert (made.driver, made.prompt, made.timeout, made.level, made.max_turns) == (
        "claude_code",
        "do it",
        90.0,
        Level.MINIMAL,
        3,
    )
    assert made.source == GitSource("/r", "main")
    assert made.limits.over(Limits(memory_bytes=1, cpus=0.25)) == Limits(memory_bytes=7, cpus=0.25)
    assert task_pb2.TaskSpec.FromString(made.spec) == spec


def test_what_a_task_leaves_open_takes_the_slots_value():
    made = convert.assignment_from(pb.TaskAssignment(spec=task_pb2.TaskSpec(workspace={"folder": {"path": "/f"}})))
    assert (made.driver, made.type, made.prompt_by, made.level, made.timeout) == ("command", "generic", "argument", None, 3600.0)
    assert made.source == FolderSource(Path("/f"))
    assert made.limits == LimitsAsked()
