"""The relay: messages a second one way, and the time of a round trip, between two sessions through a real control plane."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import echo
from bench.figures import Figure, of_rounds, of_samples, percentile
from bench.processes import control_plane, cpu_seconds

PEER_SECONDS = 120
SPREAD_LIMIT = 2.0


class Peer:
    """A peer process: started, told to begin, asked for its result."""

    def __init__(self, part: str, socket: Path, agent: str, to: str, size: int, count: int, quality: str) -> None:
        options = {"socket": socket, "agent": agent, "to": to, "size": size, "count": count, "quality": quality}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.relay_peer", part, *arguments], stdin=-1, stdout=-1, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            sys.exit("a peer of the benchmark did not start; its message is above")

    def begin(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, object]:
        """Wait for its result."""
        output, _ = self._process.communicate(timeout=PEER_SECONDS)
        if self._process.returncode:
            sys.exit("a peer of the benchmark failed; its message is above")
        return dict(json.loads(output))


def one_way(quality: str, store: str, size: int, count: int) -> tuple[float, float]:
    """Return (messages a second, control plane microseconds per message) of one pair."""
    with tempfile.TemporaryDirectory(prefix="cb") as place, control_plane(Path(place), ["a", "b"], store) as server:
        socket = Path(place) / "run/control.sock"
        sink = Peer("sink", socket, "b", "", size, count, quality)
        flood = Peer("flood", socket, "a", "b", size, count, quality)
        before = cpu_seconds(server.pid)
        sink.begin()
        flood.begin()
        seconds = float(str(sink.result()["seconds"]))
        flood.result()
        return count / seconds, (cpu_seconds(server.pid) - before) / count * 1e6


def round_trip(quality: str, store: str, size: int, count: int) -> list[float]:
    """Return the seconds of each round trip of one pair."""
    with tempfile.TemporaryDirectory(prefix="cb") as place, control_plane(Path(place), ["a", "b"], store):
        socket = Path(place) / "run/control.sock"
        pong = Peer("pong", socket, "b", "a", size, count, quality)
        ping = Peer("ping", socket, "a", "b", size, count, quality)
        pong.begin()
        ping.begin()
        times = ping.result()["seconds"]
        pong.result()
        assert isinstance(times, list)
        return times


def measure(rounds: int, size: int) -> list[Figure]:
    """Measure every variant, interleaved, with the bare grpcio echo as the yardstick of the run."""
    rates: dict[tuple[str, str], list[tuple[float, float]]] = {}
    trips: dict[tuple[str, str], list[float]] = {}
    floor: list[list[float]] = []
    variants = [("ephemeral", "memory"), ("durable", "memory"), ("durable", "sqlite")]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="cb") as place:
            floor.append(echo.run(Path(place), size, 500))
        for variant in variants:
            rates.setdefault(variant, []).append(one_way(*variant, size, 20_000))
            trips.setdefault(variant, []).extend(round_trip(*variant, size, 500))
    medians = [percentile(times, 0.5) for times in floor]
    yardstick = percentile([time for times in floor for time in times], 0.5)
    steady = max(medians) / min(medians) <= SPREAD_LIMIT
    figures = of_samples("relay", f"grpcio stream echo (floor) {size} B", "ms", [t * 1e3 for times in floor for t in times])
    for quality, store in variants:
        name = f"{quality} {store} {size} B"
        figures.append(of_rounds("relay", f"one way {name}", "msg/s", [rate for rate, _ in rates[quality, store]]))
        figures.append(of_rounds("relay", f"control plane CPU {name}", "us/msg", [cpu for _, cpu in rates[quality, store]]))
        figures += of_samples("relay", f"round trip {name}", "ms", [t * 1e3 for t in trips[quality, store]])
        ratio = percentile(trips[quality, store], 0.5) / yardstick
        goal = "<= 3.5" if quality == "ephemeral" and steady else "" if steady else "no verdict: the echo itself spread over 2x"
        figures.append(of_rounds("relay", f"round trip p50 / echo, {quality} {store}", "ratio", [ratio], goal))
    fastest = [rate for rate, _ in rates["ephemeral", "memory"]]
    ratios = [rate / other for (rate, _), other in zip(rates["durable", "sqlite"], fastest, strict=True)]
    figures.append(of_rounds("relay", f"durable sqlite / ephemeral, one way {size} B", "ratio", ratios, ">= 0.25"))
    return figures
