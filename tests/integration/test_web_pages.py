"""Who gets the dashboard's pages, and what its forms take: in front of a real control plane, without a browser."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest

from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane
from tests.fakes.web import V1, Answer, Web, web

PAGES = (
    "/",
    "/agents/agent-1",
    "/tasks",
    "/tasks/new",
    "/tasks/task_00000000",
    "/inbox",
    "/messages",
    "/messages/msg_0",
    "/usage",
)
FORMS = (
    "/agents/agent-1/quarantine",
    "/agents/agent-1/release",
    "/tasks/new",
    "/tasks/task_00000000/cancel",
    "/tasks/task_00000000/answer",
    "/messages/letters",
    "/logout",
)


@pytest.fixture(scope="module")
def served(shared: ControlPlane) -> Iterator[Web]:
    with web(shared.address) as found:
        yield found


def post(browser: Web, path: str, **fields: str) -> Answer:
    return browser.send("POST", path, urlencode(fields).encode(), content_type="application/x-www-form-urlencoded")


def logged_in(served: Web) -> tuple[Web, str]:
    """Return a browser that has logged in, and the word of its pages."""
    answer = post(served, "/login", token=OPERATOR_TOKEN)
    cookie = answer.headers["set-cookie"].partition(";")[0]
    browser = Web(served.port, served.logins, headers={"cookie": cookie})
    found = re.search(r'name="csrf" value="([^"]+)"', browser.send("GET", "/").body.decode())
    assert found is not None
    return browser, found[1]


def test_a_stranger_is_sent_to_the_login_from_every_page_and_form(served: Web):
    for path in PAGES:
        answer = served.send("GET", path)
        assert (answer.status, answer.headers["location"].partition("?")[0]) == (303, "/login"), path
    for path in FORMS:
        assert post(served, path).headers["location"] == "/login"
    assert served.send("GET", "/live").status == 401


def test_the_login_takes_a_good_token_and_says_what_is_wrong_with_another(served: Web):
    good, bad, none = (post(served, "/login", token=token) for token in (OPERATOR_TOKEN, "wrong", "ä\n"))

    assert (good.status, good.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in good.headers["set-cookie"].split(";")}
    assert OPERATOR_TOKEN not in good.headers["set-cookie"]
    assert (bad.status, none.status) == (401, 401)
    assert b"does not know this token" in bad.body


@pytest.mark.parametrize(
    ("following", "where"),
    [("/tasks?state=open", "/tasks?state=open"), ("//evil.example", "/"), ("/\\evil", "/"), ("http://e", "/")],
)
def test_a_login_leads_back_to_our_own_pages_only(served: Web, following: str, where: str):
    assert post(served, "/login", token=OPERATOR_TOKEN, next=following).headers["location"] == where


def test_the_printed_address_logs_in_once(served: Web):
    code = served.logins.code(OPERATOR_TOKEN)

    first, second = (served.send("GET", f"/login?code={code}") for _ in range(2))

    assert first.headers["location"] == "/"
    assert "set-cookie" not in second.headers
    assert b"used already" in second.body


def test_a_form_without_the_word_of_its_page_does_nothing(served: Web, shared: ControlPlane):
    browser, word = logged_in(served)

    for path in FORMS:
        assert post(browser, path).status == 403
        assert post(browser, path, csrf=word[:-1] + "x").status == 403
    call = browser.send("POST", V1 + "TaskService/ListTasks", b"{}", content_type="application/json")
    worded = browser.send("POST", V1 + "TaskService/ListTasks", b"{}", content_type="application/json", x_csrf_token=word)
    assert (call.status, worded.status) == (403, 200)


def test_a_logout_ends_the_login(served: Web):
    browser, word = logged_in(served)

    assert post(browser, "/logout", csrf=word).headers["location"] == "/login"
    assert browser.send("GET", "/").status == 303


def test_a_form_that_is_sent_twice_submits_once_and_one_that_is_wrong_keeps_what_was_written(served: Web):
    browser, word = logged_in(served)
    fields = {"csrf": word, "request_id": "web-twice", "driver": "command", "command": "echo 'a b'", "prompt": "once"}

    first, second = (post(browser, "/tasks/new", **fields) for _ in range(2))
    wrong = post(browser, "/tasks/new", **{**fields, "command": "echo 'a", "prompt": "kept <x>"})
    shown = browser.send("GET", first.headers["location"])

    assert first.headers["location"] == second.headers["location"]
    assert wrong.status == 400
    assert b"close its quotes" in wrong.body
    assert b"kept &lt;x&gt;" in wrong.body
    assert b"echo &#39;a b&#39;" in shown.body or b"echo &#39;a b&#39;".decode() in shown.body.decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tasks?state=nobody", 400),
        ("/tasks?state=all&page=%00", 400),
        ("/messages?state=nobody", 400),
        ("/messages?mailbox=" + "x" * 5000, 400),
        ("/usage?by=nobody", 400),
        ("/tasks/task_00000000", 404),
        ("/messages/msg_00", 400),
        ("/nowhere", 404),
        ("/agents/nobody", 404),
        ("/static/../app.py", 404),
    ],
)
def test_odd_addresses_get_a_page_that_says_so(served: Web, path: str, status: int):
    browser, _ = logged_in(served)

    assert browser.send("GET", path).status == status


def test_what_is_wrong_with_a_form_stays_on_the_page(served: Web):
    browser, word = logged_in(served)

    form = post(browser, "/messages/letters", csrf=word, do="redrive")
    page = browser.send("GET", "/messages/msg_00")

    assert b"No message was chosen" in form.body
    assert b"data-live" not in form.body  # what would be loaded instead is another page
    assert b"data-live" in page.body  # it may be there a moment later


def test_a_form_that_is_too_large_is_refused(served: Web):
    browser, word = logged_in(served)

    assert post(browser, "/tasks/new", csrf=word, prompt="x" * (1 << 20)).status == 413
    assert post(served, "/login", token="x" * 20_000).status == 413


async def test_an_agent_is_taken_out_and_let_in_again(control_plane: ControlPlane, sidecar):
    agent = await sidecar("agent-1")

    def visit() -> tuple[str, str, str]:
        with web(control_plane.address, OPERATOR_TOKEN) as own:
            browser, word = logged_in(own)
            before = browser.send("GET", "/agents/agent-1").body.decode()
            assert post(browser, "/agents/agent-1/quarantine", csrf=word, reason="reads <what> it must not").status == 303
            out = browser.send("GET", "/agents/agent-1").body.decode()
            assert post(browser, "/agents/agent-1/release", csrf=word).status == 303
            told = own.events("EventService/WatchEvents", {"type_prefixes": ["agent.quarantined"]}, last_event_id="0")
            return before, out, next(told)["data"]

    before, out, told = await asyncio.to_thread(visit)

    assert 'class="state idle"' in before
    assert 'class="state lost"' in out
    assert "reads <what> it must not" in told
    await agent.disconnect()


def test_every_answer_is_guarded(served: Web):
    for path in ("/login", "/static/style.css", "/nowhere", "/api/openapi.json"):
        headers = served.send("GET", path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_what_agents_write_cannot_hide(served: Web):
    browser, word = logged_in(served)
    fields = {"csrf": word, "driver": "command", "command": "true", "prompt": "a\u202eb\x1b[31mc<script>"}

    page = browser.send("GET", post(browser, "/tasks/new", **fields).headers["location"]).body.decode()

    assert "a⟨U+202E⟩b␛[31mc&lt;script&gt;" in page


def test_open_pages_do_not_hold_up_the_end_nor_make_a_noise(shared: ControlPlane, caplog: pytest.LogCaptureFixture):
    with ExitStack() as streams:
        with web(shared.address, OPERATOR_TOKEN) as ending:
            browser, _ = logged_in(ending)
            live = streams.enter_context(browser.open("GET", "/live"))
            assert live.readline() == b"retry: 2000\n"
            events = streams.enter_context(ending.open("GET", V1 + "EventService/WatchEvents", last_event_id="0"))
            began = time.monotonic()
        assert time.monotonic() - began < 1.5
        assert b"event: lost" in live.read()
        events.read()

    assert [record.message for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


def test_changes_come_as_one_small_word(served: Web):
    browser, word = logged_in(served)
    with browser.open("GET", "/live", last_event_id="0") as answer:
        lines = iter(answer)
        for number in range(20):
            post(browser, "/tasks/new", csrf=word, driver="command", command="true", prompt=f"task {number}")
        events = [next(line for line in lines if line.startswith(b"event:")) for _ in range(2)]

    assert events == [b"event: open\n", b"event: changed\n"]
