"""The HTTP/JSON API in front of a real control plane."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from claude_conductor.web.methods import methods
from tests.fakes.control_plane import OPERATOR_TOKEN, ROOT, ControlPlane
from tests.fakes.web import V1, Web, web

EXAMPLES = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def api(shared: ControlPlane) -> Iterator[Web]:
    with web(shared.address, OPERATOR_TOKEN) as served:
        yield served


def submit(api: Web, **spec: object) -> str:
    answer = api.call("TaskService/SubmitTask", {"spec": {"driver": "command", "command": ["true"], **spec}})
    assert answer.status == 200, answer.body
    return answer.json["task"]["task_id"]


def test_a_task_is_submitted_read_and_cancelled(api: Web):
    task_id = submit(api, prompt="grüße")

    got = api.call("TaskService/GetTask", {"task_id": task_id})
    cancelled = api.call("TaskService/CancelTask", {"taskId": task_id, "reason": "enough"})

    assert got.json["task"]["spec"]["prompt"] == "grüße"
    assert cancelled.json["task"]["state"] == "TASK_STATE_CANCELLED"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["cache-control"] == "no-store"


def test_every_method_and_stream_refuses_who_has_no_token_or_a_wrong_one(api: Web):
    stranger = Web(api.port, api.logins)

    assert len(methods()) > 20
    for name in methods().keys() - {"CertificateService/GetAuthority"}:  # which is told to everybody
        for authorization in ("", "Bearer wrong", "Bearer ä", "Basic YTpi", "Bearer " + "x" * 5000):
            answer = stranger.call(name, {}, authorization=authorization)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), (name, authorization, answer.body)


def test_a_failure_has_its_http_status_reason_and_next_step(api: Web):
    answer = api.call("TaskService/GetTask", {"task_id": "task_00000000"})

    assert answer.status == answer.json["error"]["code"] == 404
    assert answer.json["error"]["status"] == "NOT_FOUND"
    assert answer.reason == "TASK_NOT_FOUND"
    assert "conductor tasks list" in answer.json["error"]["details"][0]["metadata"]["next_step"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"7", "application/json", 400),
        (b'{"task_id": 7}', "application/json", 400),
        (b'{"nobody": 1}', "application/json", 400),
        (b'{"task_id": "\\ud800"}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * ((8 << 20) + 1), "application/json", 413),
    ],
)
def test_what_is_no_request_is_refused_and_said_so(api: Web, body: bytes, kind: str, status: int):
    answer = api.send("POST", V1 + "TaskService/GetTask", body, content_type=kind)

    assert answer.status == answer.json["error"]["code"] == status
    assert answer.reason == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", V1 + "TaskService/GetTask", 405),
        ("POST", V1 + "TaskService/Nothing", 404),
        ("POST", V1 + "LocalService/GetSelf", 404),
        ("POST", V1 + "ArtefactService/WriteArtefact", 404),
        ("DELETE", V1 + "TaskService/GetTask", 405),
        ("GET", "/api/../../etc/passwd", 404),
    ],
)
def test_what_is_not_served(api: Web, method: str, path: str, status: int):
    assert api.send(method, path, b"{}", content_type="application/json").status == status


def test_a_stream_goes_on_behind_the_last_event_id(api: Web):
    task_id = submit(api)
    events = api.events("EventService/WatchEvents", {"task_id": task_id}, last_event_id="0")
    first = next(events)
    events.close()
    api.call("TaskService/CancelTask", {"task_id": task_id})

    rest = api.events("EventService/WatchEvents", {"task_id": task_id}, last_event_id=first["id"])
    second = next(rest)
    rest.close()

    assert json.loads(first["data"])["event"]["type"] == "task.queued"
    assert int(second["id"]) > int(first["id"])
    assert json.loads(second["data"])["event"]["type"] == "task.cancelled"


def test_a_stream_that_ends_says_so_and_one_that_is_refused_is_no_stream(api: Web):
    task_id = submit(api)
    api.call("TaskService/CancelTask", {"task_id": task_id})

    watched = list(api.events("TaskService/WatchTask", {"task_id": task_id}))
    refused = api.call("TaskService/WatchTask", {"task_id": "task_00000000"})
    nowhere = api.call("EventService/WatchEvents", {}, last_event_id="seven")

    assert [event.get("event", "") for event in watched] == ["", "end"]
    assert (refused.status, refused.reason) == (404, "TASK_NOT_FOUND")
    assert nowhere.status == 400


def test_another_host_and_another_site_get_nothing(api: Web):
    assert api.send("GET", "/api/openapi.json", host="evil.example").status == 421
    assert api.send("GET", "/api/openapi.json", host=f"localhost:{api.port}").status == 200


def test_the_document_names_every_method_and_says_what_the_protos_say(api: Web):
    document = api.send("GET", "/api/openapi.json").json

    assert document["openapi"] == "3.1.0"
    assert {path.removeprefix(V1) for path in document["paths"]} == set(methods())
    task = document["components"]["schemas"]["Task"]
    assert task["properties"]["state"]["description"]
    undescribed = [
        name for name, schema in document["components"]["schemas"].items() if name != "Error" and not schema["description"]
    ]
    assert undescribed == []
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing (Debian: curl)")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("v1.")[1].split('"')[0])
def test_the_examples_of_the_document_work(api: Web, example: str):
    done = subprocess.run(
        ["/bin/sh", "-ec", example],
        env={"URL": api.url, "TOKEN": OPERATOR_TOKEN, "PATH": "/usr/bin:/bin", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_a_control_plane_that_is_away_is_said_as_unavailable(tmp_path):
    with web(f"unix:{tmp_path}/nobody.sock", "token") as alone:
        answer = alone.call("TaskService/ListTasks")

    assert (answer.status, answer.json["error"]["status"]) == (503, "UNAVAILABLE")
