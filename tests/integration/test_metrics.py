"""A real Prometheus reads a real control plane."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from claude_conductor.telemetry import metrics
from claude_conductor.v1 import message_pb2
from tests.fakes.control_plane import ROOT, ControlPlane

MONITORING = ROOT / "config/monitoring"
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (Debian: prometheus)")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url: str, method: str = "GET") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:  # noqa: S310 - loopback
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def promtool(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["promtool", *arguments], input=given, cwd=MONITORING, capture_output=True, check=False, timeout=30)


def start_prometheus(folder: Path, port: int) -> subprocess.Popen[bytes]:
    arguments = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(["prometheus", *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)


@pytest.fixture
async def measured(tmp_path: Path):
    port = free_port()
    plane = ControlPlane(tmp_path / "home", metrics_port=port)
    await plane.start()
    yield plane, f"http://127.0.0.1:{port}/metrics"
    await plane.close()


async def test_a_scrape_tells_of_tasks_calls_and_the_store(measured):
    plane, url = measured
    operator = plane.operator()
    for _ in range(3):
        await operator.submit()

    status, body = await asyncio.to_thread(get, url)

    text = body.decode()
    assert status == 200
    assert 'conductor_tasks{priority="5",state="queued",tenant="default"} 3.0' in text
    assert 'conductor_store_call_duration_seconds_count{call="insert",store="tasks"} 3.0' in text
    method = "claude_conductor.v1.TaskService/SubmitTask"
    assert f'rpc_server_call_duration_seconds_count{{rpc_method="{method}",rpc_response_status_code="OK"}} 3.0' in text
    assert 'conductor_agents{state="working"} 0.0' in text
    assert "process_resident_memory_bytes" in text
    assert {metric.name for metric in metrics.ALL} <= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


async def test_a_scrape_tells_of_agents_and_of_messages_on_their_way(measured, sidecar_of):
    plane, url = measured
    sender, receiver = (
        await sidecar_of(plane, "agent-1", long_running=True),
        await sidecar_of(plane, "agent-2", long_running=True),
    )
    for quality in (message_pb2.QUALITY_DURABLE, message_pb2.QUALITY_EPHEMERAL):
        assert await sender.committed(await sender.say("agent-2", "one", "two", quality=quality)) is None
        await receiver.next_frame()
    refused = await sender.committed(await sender.say("nobody", "lost"))

    text = (await asyncio.to_thread(get, url))[1].decode()

    assert refused is not None
    assert "conductor_sessions 2.0" in text
    assert 'conductor_agents{state="idle"} 2.0' in text
    assert 'conductor_messages_accepted_total{quality="durable"} 2.0' in text
    assert 'conductor_messages_accepted_total{quality="ephemeral"} 2.0' in text
    assert f'conductor_messages_refused_total{{reason="{refused.reason}"}} 1.0' in text
    assert 'conductor_relay_duration_seconds_count{path="live"} 1.0' in text


async def test_what_is_no_scrape_is_refused(measured):
    _, url = measured

    assert (await asyncio.to_thread(get, url, "POST"))[0] == 405
    assert (await asyncio.to_thread(get, url.replace("/metrics", "/")))[0] == 404
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
    writer.write(b"\x16\x03\x01 not http\r\n\r\n")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert (await asyncio.to_thread(get, url))[0] == 200


async def test_an_open_connection_does_not_hold_up_the_end(measured):
    plane, url = measured
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    began = time.monotonic()

    assert await asyncio.to_thread(plane.terminate) == 0
    assert time.monotonic() - began < 5
    writer.close()


async def test_without_the_setting_nothing_is_listened_to(tmp_path: Path):
    plane = ControlPlane(tmp_path / "home")
    await plane.start()

    log = plane.log()
    await plane.close()

    assert "serving metrics" not in log


async def test_a_port_that_is_taken_is_said_with_the_setting(tmp_path: Path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        plane = ControlPlane(tmp_path / "home", metrics_port=listener.getsockname()[1])
        process = plane.spawn()
        assert await asyncio.to_thread(process.wait, 20) == 78

    assert "telemetry.metrics_port" in plane.log()


@needs_promtool
async def test_promtool_finds_nothing_wrong(measured):
    plane, url = measured
    await plane.operator().submit()
    _, body = await asyncio.to_thread(get, url)

    checked = await asyncio.to_thread(promtool, "check", "metrics", given=body)

    assert (checked.returncode, checked.stderr) == (0, b"")


@needs_promtool
def test_the_rules_hold_and_play_as_their_tests_say():
    for command in (
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts_test.yaml"],
        ["check", "config", "prometheus.yaml"],
    ):
        done = promtool(*command)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is missing (Debian: prometheus)")
async def test_prometheus_scrapes_and_evaluates_the_rules(measured, tmp_path: Path):
    plane, url = measured
    await plane.operator().submit()
    port, target = free_port(), urllib.parse.urlsplit(url).netloc
    setup = (MONITORING / "prometheus.yaml").read_text().replace("127.0.0.1:7444", target).replace("15s", "1s")
    (tmp_path / "prometheus.yaml").write_text(setup)
    shutil.copy(MONITORING / "alerts.yaml", tmp_path)
    process = start_prometheus(tmp_path, port)
    try:
        query = urllib.parse.urlencode({"query": 'conductor_tasks{state="queued"} and on () up{job="conductor"} == 1'})
        found = await asyncio.to_thread(until_found, f"http://127.0.0.1:{port}/api/v1/query?{query}")
        rules = json.loads(get(f"http://127.0.0.1:{port}/api/v1/rules")[1])["data"]["groups"][0]["rules"]
    finally:
        process.terminate()
        process.wait(20)

    assert [each["value"][1] for each in found] == ["1"]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def until_found(url: str) -> list[dict[str, list[str]]]:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            if found := json.loads(get(url)[1])["data"]["result"]:
                return found
        except (OSError, KeyError, ValueError):
            pass
        time.sleep(0.2)
    raise AssertionError("Prometheus has not read the control plane within 40 s")
