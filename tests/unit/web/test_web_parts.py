"""Logins, places in streams, bars and sums: the parts of the web that decide without a server."""

import pytest
from starlette.requests import Request
from starlette.responses import Response

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1.artefact_service_pb2 import ReadArtefactRequest, ReadArtefactResponse
from claude_conductor.v1.event_pb2 import Event, Gap
from claude_conductor.v1.event_service_pb2 import WatchEventsRequest, WatchEventsResponse
from claude_conductor.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_RUNNING, TASK_STATE_SUCCEEDED, Task, TaskSpec, TaskUsage
from claude_conductor.v1.task_service_pb2 import ReadTaskOutputRequest, ReadTaskOutputResponse
from claude_conductor.web import logins as logins_module
from claude_conductor.web.logins import COOKIE, Logins
from claude_conductor.web.methods import methods
from claude_conductor.web.pages.fleet import parts
from claude_conductor.web.pages.usage import rows
from claude_conductor.web.resuming import Places, resume
from tests.contract.samples import HandClock


def request_with(cookie: str) -> Request:
    return Request({"type": "http", "headers": [(b"cookie", f"{COOKIE}={cookie}".encode())]})


def begun(logins: Logins, token: str) -> str:
    response = Response()
    logins.begin(response, token)
    return response.headers["set-cookie"].partition(";")[0].partition("=")[2]


def test_a_login_stands_for_its_token_until_it_is_over():
    clock = HandClock()
    logins = Logins(clock)
    cookie = begun(logins, "secret")

    login = logins.of(request_with(cookie))
    clock.pass_(logins_module.SECONDS)

    assert login is not None
    assert (login.token, login.fits(login.csrf), login.fits("")) == ("secret", True, False)
    assert "secret" not in repr(login)
    assert logins.of(request_with(cookie)) is None
    assert logins.of(request_with("made up")) is None


def test_a_code_works_once_and_not_for_long():
    clock = HandClock()
    logins = Logins(clock)
    code, late = logins.code("secret"), logins.code("secret")

    assert [logins.redeem(code), logins.redeem(code)] == ["secret", None]
    clock.pass_(logins_module.CODE_SECONDS)
    assert logins.redeem(late) is None


def test_of_too_many_logins_the_oldest_goes():
    logins = Logins(HandClock())

    first, *_, last = [begun(logins, str(number)) for number in range(logins_module.MOST + 1)]

    assert logins.of(request_with(first)) is None
    assert logins.of(request_with(last)) is not None


def test_every_stream_goes_on_from_the_id_of_its_last_item():
    event = WatchEventsResponse(event=Event(cursor=7))
    gap = WatchEventsResponse(gap=Gap(to=9))
    watched, output, read = WatchEventsRequest(), ReadTaskOutputRequest(), ReadArtefactRequest(offset=3)

    resume("EventService/WatchEvents", watched, Places("EventService/WatchEvents", watched).of(event))
    assert watched.after_cursor == 7
    assert Places("EventService/WatchEvents", watched).of(gap) == "9"
    resume(
        "TaskService/ReadTaskOutput",
        output,
        Places("TaskService/ReadTaskOutput", output).of(ReadTaskOutputResponse(attempt=2, next_offset=40)),
    )
    assert (output.attempt, output.offset) == (2, 40)
    places = Places("ArtefactService/ReadArtefact", read)
    assert [places.of(ReadArtefactResponse(data=b"abc")), places.of(ReadArtefactResponse(data=b"d"))] == ["6", "7"]


@pytest.mark.parametrize("place", ["seven", "1:2:3", "-1", "1:", "99999999999999999999999"])
def test_what_is_no_place_is_refused(place):
    with pytest.raises(InvalidArgumentError):
        resume("TaskService/ReadTaskOutput", ReadTaskOutputRequest(), place)


def test_every_stream_is_either_resumed_or_begins_with_what_is_so_now():
    streams = {name for name, method in methods().items() if method.streams}

    assert streams == {
        "ArtefactService/ReadArtefact",
        "EventService/WatchEvents",
        "MessageService/ReceiveMessages",
        "TaskService/ReadTaskOutput",
        "TaskService/WatchTask",
    }


def test_a_bar_is_filled_and_nothing_in_it_vanishes():
    bar = parts([("running", 1), ("blocked", 0), ("queued", 10_000)])

    assert [(part.name, part.count) for part in bar] == [("running", 1), ("queued", 10_000)]
    assert bar[0].width >= 15
    assert sum(part.width for part in bar) == 1000
    assert parts([]) == []


def test_sums_count_what_ended_and_the_most_expensive_comes_first():
    def task(kind, state, cost):
        return Task(spec=TaskSpec(type=kind), state=state, usage=TaskUsage(cost_usd=cost, memory_peak_bytes=int(cost * 10)))

    found, total = rows(
        [
            task("a", TASK_STATE_SUCCEEDED, 1),
            task("b", TASK_STATE_FAILED, 3),
            task("a", TASK_STATE_SUCCEEDED, 1),
            task("a", TASK_STATE_RUNNING, 9),
        ],
        lambda each: each.spec.type,
    )

    assert [(row.key, row.tasks, row.succeeded, row.cost, row.memory) for row in found] == [
        ("b", 1, 0, 3, 30),
        ("a", 2, 2, 2, 10),
    ]
    assert (total.tasks, total.cost) == (3, 5)
