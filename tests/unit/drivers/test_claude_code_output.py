from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_sidecar.drivers.claude_code_output import ClaudeCodeOutput
from agent_sidecar.drivers.driver import Answer, Observation, Progress, TokenUse


def assistant(number: int, *blocks: dict[str, Any], output: int = 1, parent: str | None = None) -> dict[str, Any]:
    usage = {"input_tokens": 100, "output_tokens": output, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 3}
    message = {"id": f"msg_{number}", "role": "assistant", "content": list(blocks), "usage": usage}
    return {"type": "assistant", "message": message, "parent_tool_use_id": parent}


CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw of a text builds tables for seconds
TEXT = {"type": "text", "text": "\nI will look.\nThen write."}
WRITE = {"type": "tool_use", "id": "t", "name": "Write", "input": {"content": "x" * 500, "file_path": "/workspace/a.py"}}
RESULT = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "num_turns": 2,
    "result": "All done.",
    "total_cost_usd": 0.25,
    "usage": {"input_tokens": 1, "output_tokens": 1},
    "modelUsage": {
        "big": {"inputTokens": 200, "outputTokens": 90, "cacheReadInputTokens": 40, "cacheCreationInputTokens": 6},
        "small": {"inputTokens": 5, "outputTokens": 2},
    },
}
RUN = [
    {"type": "system", "subtype": "init"},
    assistant(1, TEXT),
    assistant(1, WRITE),
    {"type": "user"},
    assistant(2, TEXT),
    RESULT,
]


def stream(*events: object) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def read(data: bytes, *cuts: int, limit: int = 4096) -> tuple[bytes, list[Observation]]:
    parser = ClaudeCodeOutput(limit)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    shown, seen = b"", []
    for begin, end in pairwise(edges):
        live, meaning = parser.feed(data[begin:end])
        shown, seen = shown + live, seen + meaning
    live, meaning = parser.finish()
    return shown + live, seen + meaning


def test_a_run_is_told_as_progress_usage_and_answer():
    _, seen = read(stream(*RUN))

    assert seen == [
        Progress("I will look."),
        TokenUse(100, 1, 20, 3, turns=1),
        Progress("Write /workspace/a.py"),
        Progress("I will look."),
        TokenUse(200, 2, 40, 6, turns=2),
        TokenUse(205, 92, 40, 6, turns=2, cost_usd=0.25),
        Answer("All done."),
    ]


def test_live_output_is_readable_text():
    shown, _ = read(stream(*RUN[:3]) + b"not json\n")

    assert shown == b"\nI will look.\nThen write.\n> Write /workspace/a.py\nnot json\n"


def test_usage_of_one_message_counts_once_with_its_last_value():
    _, seen = read(stream(assistant(1, TEXT, output=1), assistant(1, WRITE, output=50)))

    assert [use for use in seen if isinstance(use, TokenUse)][-1] == TokenUse(100, 50, 20, 3, turns=1)


def test_messages_of_subagents_count_as_tokens_but_not_as_turns():
    _, seen = read(stream(assistant(1, TEXT), assistant(2, TEXT, parent="t")))

    assert [use for use in seen if isinstance(use, TokenUse)][-1] == TokenUse(200, 2, 40, 6, turns=1)


def test_totals_stay_right_over_more_messages_than_are_remembered():
    _, seen = read(stream(*(assistant(number, TEXT) for number in range(200))))

    assert [use for use in seen if isinstance(use, TokenUse)][-1] == TokenUse(20_000, 200, 4_000, 600, turns=200)


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ({"is_error": True, "result": "API Error: 401"}, Answer("API Error: 401", failed=True)),
        ({"subtype": "error_max_turns", "is_error": False}, Answer("error_max_turns", failed=True)),
        ({"subtype": "error_during_execution", "errors": ["one", 2, "three"]}, Answer("one; three", failed=True)),
    ],
)
def test_a_failed_run_says_so(result: dict[str, Any], answer: Answer):
    _, seen = read(stream({"type": "result", **result}))

    assert seen[-1] == answer


def test_a_last_line_without_a_newline_counts():
    assert read(stream(RESULT).rstrip())[1][-1] == Answer("All done.")


def test_a_giant_line_is_left_out_and_the_next_one_read():
    giant = json.dumps(assistant(1, {"type": "text", "text": "x" * 10_000})).encode() + b"\n"

    shown, seen = read(giant + stream(RESULT))

    assert b"was left out" in shown
    assert isinstance(seen[0], Progress)
    assert seen[-1] == Answer("All done.")


def test_what_is_held_back_is_bounded():
    parser = ClaudeCodeOutput(1000)
    for _ in range(1000):
        parser.feed(b"x" * 999)

    assert len(parser._lines._held) <= 1000


def test_progress_cannot_act_on_a_terminal():
    _, seen = read(stream(assistant(1, {"type": "text", "text": "a\x1b[2J\x07\u202eb"})))

    assert seen[0] == Progress("a [2J  b")


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
BLOCK = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["text", "tool_use"]) | ODD, "text": ODD, "name": ODD, "input": ODD}
)
USAGE = st.fixed_dictionaries({}, optional={"input_tokens": ODD, "outputTokens": ODD, "cache_read_input_tokens": ODD}) | ODD
MESSAGE = st.fixed_dictionaries({}, optional={"id": ODD, "content": st.lists(BLOCK, max_size=3) | ODD, "usage": USAGE}) | ODD
EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(["assistant", "result", "user", "system"])},
    optional={
        "message": MESSAGE,
        "parent_tool_use_id": ODD,
        "usage": USAGE,
        "modelUsage": st.dictionaries(st.text(max_size=3), USAGE, max_size=2) | ODD,
        "num_turns": ODD,
        "total_cost_usd": ODD,
        "is_error": ODD,
        "subtype": ODD,
        "result": ODD,
        "errors": ODD,
    },
)
LINE = EVENT.map(lambda event: json.dumps(event).encode()) | st.binary(max_size=60) | st.just(b"x" * 5000)
STREAM = st.lists(LINE, max_size=8).map(b"\n".join)


@CALM
@given(STREAM, st.lists(st.integers(0, 12_000), max_size=8))
def test_any_way_of_cutting_the_same_bytes_means_the_same(data: bytes, cuts: list[int]):
    assert read(data, *cuts) == read(data)


@CALM
@given(STREAM, st.lists(st.integers(0, 12_000), max_size=8))
def test_no_bytes_ever_raise_and_what_comes_out_can_be_sent(data: bytes, cuts: list[int]):
    for seen in read(data, *cuts)[1]:
        match seen:
            case Progress(text) | Answer(text):
                assert text.encode()[:0] == b""
            case TokenUse():
                assert all(0 <= count < 2**62 for count in (seen.input_tokens, seen.output_tokens, seen.cache_read_tokens))
                assert 0 <= seen.turns < 2**31
                assert 0 <= seen.cost_usd < float("inf")


@CALM
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_arbitrary_bytes_never_raise(data: bytes, cuts: list[int]):
    assert read(data, *cuts) == read(data)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"type":' * 50_000, b'{"type":"result","num_turns":' + b"9" * 5000 + b"}", b'{"a":"\\ud800"}']
)
def test_lines_that_break_other_parsers_do_not_break_this_one(line: bytes):
    _, seen = read(line + b"\n" + stream(RESULT), limit=1 << 20)

    assert seen[-1] == Answer("All done.")


def test_a_lone_surrogate_in_a_text_can_be_sent_on():
    line = b'{"type":"result","result":"\\ud800 done"}\n'

    assert read(line)[1][-1] == Answer("? done")
