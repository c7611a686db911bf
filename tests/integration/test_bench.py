"""The benchmarks measure something: a small run of each, on real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]


def bench(*arguments: str, into: Path, peers: Path | None = None) -> tuple[str, dict[str, list[dict[str, object]]]]:
    command = [sys.executable, "-m", "bench", *arguments, "--json", str(into)]
    environment = os.environ | ({"CONDUCTOR_BENCH_PEERS": str(peers)} if peers is not None else {})
    run = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, json.loads(into.read_text())


@pytest.mark.timeout(120)
def test_the_relay_is_measured_with_the_echo_as_its_yardstick(tmp_path: Path) -> None:
    said, saved = bench(
        "relay",
        "--pairs=1,2",
        "--size=256",
        "--paced=200",
        "--rounds=1",
        "--quality=durable",
        "--store=sqlite",
        into=tmp_path / "x.json",
    )
    what = [figure["what"] for figure in saved["figures"]]
    assert "round trip 256 B, 1 pair: echo" in what
    assert "flood 256 B, 2 pairs: durable sqlite" in what
    assert "paced 256 B, 2 pairs, 200 msg/s: durable sqlite" in what
    assert "skipped: not asked for" in said


@pytest.mark.timeout(120)
def test_idle_agents_are_measured(tmp_path: Path) -> None:
    _, saved = bench("idle", "--agents=3", into=tmp_path / "x.json")
    assert "control plane RSS, 3 agents" in [figure["what"] for figure in saved["figures"]]
    assert saved["goals"][0]["verdict"] == "skipped: not asked for"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: strict needs cgroups, which an ordinary user has to be given")
@pytest.mark.timeout(120)
def test_sandboxes_are_measured_beside_a_bare_process(tmp_path: Path) -> None:
    said, saved = bench("isolation", "--rounds=1", into=tmp_path / "x.json")
    what = [figure["what"] for figure in saved["figures"]]
    assert {"start to exit p50", "50 up", "50 down", "bare process"} <= set(what)
    assert len(saved["goals"]) == 8
    assert "one round says nothing" in said


@pytest.mark.timeout(120)
def test_the_dispatch_of_tasks_is_measured_and_absent_peers_are_skipped(tmp_path: Path) -> None:
    said, saved = bench(
        "dispatch", "--rounds=1", "--tasks=40", "--store=sqlite", "--against=celery", into=tmp_path / "x.json", peers=tmp_path
    )
    what = [figure["what"] for figure in saved["figures"]]
    for kind in ("notified", "tasks", "tasks, batched", "submits", "submits, batched"):
        assert f"{kind}: conductor sqlite" in what
    assert "yardstick: grpcio echo" in what
    assert not [each for each in what if "celery" in each]
    verdicts = {goal["what"]: goal["verdict"] for goal in saved["goals"]}
    assert verdicts["submit to notified p50, durable"].startswith("no verdict: one round")
    assert verdicts["no-op tasks/s, one by one / Celery"].startswith("skipped")
    assert "skipped" in said


@pytest.mark.timeout(120)
def test_a_queue_of_waiting_tasks_is_measured(tmp_path: Path) -> None:
    _, saved = bench("queue", "--rounds=1", "--depth=0,20", into=tmp_path / "x.json")
    what = [figure["what"] for figure in saved["figures"]]
    for each in ("0 wait: others notified", "20 wait: submitted in batches", "20 wait: worked off by 8 slots"):
        assert each in what
    assert "20 wait: restart to ready" in what
