"""When a goal counts as met, and when a run says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import goals, plot
from bench.__main__ import read
from bench.relay import Cell, Results, Sample, cells, figures, ratios
from bench.systems import AUTOGEN, ECHO, NATS, beside, ours

FLOOD = Cell("flood", 256, 1)
TRIP = Cell("round trip", 256, 1)
OURS_FAST = ours()["ephemeral", "memory"]


def flood(rate: float, cpu_us: float = 1.0) -> Sample:
    return Sample(1000, 1000 / rate, cpu_us * 1000 / 1e6, ())


def trip(ms: float) -> Sample:
    return Sample(3, 1.0, 1.0, (ms / 1e3, ms / 1e3, 1.0))


def run(echo: tuple[float, ...] = (0.2, 0.2, 0.2)) -> Results:
    return {
        ("echo", TRIP): [trip(ms) for ms in echo],
        ("ephemeral memory", TRIP): [trip(0.6) for _ in echo],
        ("ephemeral memory", FLOOD): [flood(rate) for rate in (90_000, 100_000, 50_000)],
        ("nats", FLOOD): [flood(rate) for rate in (60_000, 50_000, 50_000)],
    }


def verdicts(results: Results, skipped: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    return {each.what: (each.measured, each.verdict) for each in goals.judge(results, skipped or {})}


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratios(run(), FLOOD, "ephemeral memory", "nats", lambda one: one.rate) == [1.5, 2.0, 1.0]


def test_must_and_goal_are_told_apart() -> None:
    found = verdicts(run())
    assert found["msg/s 256 B, one pair / NATS"] == ("1.5 (1 to 2)", "must met")
    assert found["round trip p50 / grpcio echo"] == ("3 (3 to 3)", "must met")


@pytest.mark.parametrize(
    ("measured", "more", "verdict"),
    [(0.9, True, "NOT MET"), (1.0, True, "must met"), (1.8, True, "goal met"), (0.9, False, "must met"), (1.9, False, "NOT MET")],
)
def test_a_bound_itself_counts_as_met(measured: float, more: bool, verdict: str) -> None:
    must, goal = (1.0, 1.8) if more else (1.0, 0.5)
    assert goals.verdict_on(measured, must, goal, more_is_better=more) == verdict


def test_there_is_no_verdict_when_the_echo_itself_was_unsteady() -> None:
    measured, verdict = verdicts(run(echo=(0.2, 0.2, 0.41)))["msg/s 256 B, one pair / NATS"]
    assert measured == "1.5 (1 to 2)"
    assert "the echo itself spread" in verdict


def test_there_is_no_verdict_after_one_round_or_without_an_echo() -> None:
    assert "one round" in verdicts(run(echo=(0.2,)))["msg/s 256 B, one pair / NATS"][1]
    results = run()
    del results["echo", TRIP]
    assert "no verdict" in verdicts(results)["msg/s 256 B, one pair / NATS"][1]


def test_a_peer_that_is_absent_is_skipped_and_never_passed() -> None:
    found = verdicts(run(), {"autogen": "it is not installed"})
    assert found["msg/s 256 B, one pair / AutoGen"] == ("-", "skipped: it is not installed")
    assert found["msg/s 256 B, one pair / SLIM from Python"][1].startswith("skipped")


def test_idle_memory_is_judged_only_if_it_was_measured() -> None:
    assert goals.judge_idle(None).verdict.startswith("skipped")
    assert [goals.judge_idle(rss).verdict for rss in (79.0, 100.0, 121.0)] == ["goal met", "must met", "NOT MET"]


def test_what_a_peer_without_bounds_is_sent_is_bounded() -> None:
    assert FLOOD.count(OURS_FAST) == 40_000
    assert FLOOD.count(AUTOGEN) == 2_000
    assert Cell("flood", 1 << 20, 8).count(OURS_FAST) == 8
    assert Cell("flood", 1 << 20, 64).count(AUTOGEN) == 0
    assert Cell("paced", 256, 64, 640).count(NATS) == 40


def test_cells_are_floods_of_each_size_and_number_trips_of_each_size_and_paced_ones_of_the_first() -> None:
    assert [str(cell) for cell in cells([256, 4096], [1, 64], 500, [64])] == [
        "flood 256 B, 1 pair",
        "flood 256 B, 64 pairs",
        "flood 4096 B, 1 pair",
        "flood 4096 B, 64 pairs",
        "round trip 256 B, 1 pair",
        "round trip 4096 B, 1 pair",
        "paced 256 B, 64 pairs, 500 msg/s",
    ]


def test_pictures_are_drawn_from_the_saved_figures(tmp_path: Path) -> None:
    made = figures(run(), [ECHO, OURS_FAST, NATS])
    saved = tmp_path / "relay.json"
    saved.write_text(json.dumps({"figures": [{"what": each.what, "median": each.median} for each in made]}))
    pairs, sizes = plot.draw(saved, tmp_path / "pictures")
    assert ">nats</text>" in pairs.read_text()
    assert ">ephemeral memory</text>" in sizes.read_text()


def test_the_same_relay_served_otherwise_stands_beside_the_one_that_is_judged() -> None:
    given = read(["relay", "--grpc-server", "native,grpcio"])
    assert given.grpc_server == ["native", "grpcio"]
    assert read(["relay"]).grpc_server == ["native"]
    names = [system.name for system in (*ours("native").values(), beside("grpcio"))]
    assert names == ["ephemeral memory", "durable memory", "durable sqlite", "ephemeral memory, grpcio"]


def test_a_server_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(["relay", "--grpc-server", "h2o"])
    assert "h2o is none of native, grpcio" in capsys.readouterr().err


def test_the_queue_is_judged_by_its_latency_alone_and_beside_its_peers() -> None:
    notified, tasks = Cell("notified", 0, 1), Cell("tasks", 0, 1)
    results: Results = {
        ("echo", TRIP): [trip(0.2), trip(0.2)],
        ("conductor sqlite", notified): [trip(1.5), trip(3.0)],
        ("celery", notified): [trip(3.0), trip(3.0)],
        ("conductor sqlite", tasks): [flood(900), flood(1000)],
        ("celery", tasks): [flood(300), flood(1000)],
    }
    found = {
        each.what: (each.measured, each.verdict) for each in goals.judge_dispatch(results, {"taskiq": "it is not installed"})
    }
    assert found["submit to notified p50, durable"] == ("2.25 (1.5 to 3) ms", "must met")
    assert found["submit to notified p50 / Celery"] == ("0.75 (0.5 to 1)", "must met")
    assert found["submit to notified p50 / taskiq"] == ("-", "skipped: it is not installed")
    assert found["no-op tasks/s, one by one / Celery"] == ("2 (1 to 3)", "must met")
    assert found["no-op tasks/s, batched submit / Celery"] == ("-", "skipped: not asked for")
    del results["echo", TRIP]
    assert {each.verdict.split(":")[0] for each in goals.judge_dispatch(results, {})} == {"no verdict", "skipped"}
