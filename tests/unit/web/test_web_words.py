"""How pages say numbers, times and what agents wrote."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from claude_conductor.web import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0 s"), (0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (11_100, "3 h 5 min"), (90_000, "1 d")],
)
def test_spans_are_said_in_one_or_two_units(seconds, said):
    assert words.span(seconds) == said


def test_what_has_not_happened_has_no_time():
    assert (words.age(Timestamp()), words.clock(Timestamp()), words.iso(Timestamp())) == ("", "", "")
    assert words.between(Timestamp(), Timestamp(seconds=5)) == ""
    assert words.between(Timestamp(seconds=5), Timestamp(seconds=5, nanos=67_000_000)) == "67 ms"


def test_states_of_newer_control_planes_are_numbers_and_no_failure():
    assert words.word(5, "task") == "waiting_for_human"
    assert words.word(99, "task") == "99"
    assert words.number_of("dead", "message") == 7


def test_marks_that_could_mislead_are_made_visible():
    assert words.plain("a\tb\nc\x00\x7f\u202e\u200b") == "a\tb\nc␀⟨U+007F⟩⟨U+202E⟩⟨U+200B⟩"


def test_a_sentence_keeps_its_code_and_nothing_else():
    assert words.said("run `conductor start`, not <b>") == "run <code>conductor start</code>, not &lt;b&gt;"


def test_no_filter_takes_the_place_of_one_of_the_template_language():
    from jinja2.filters import FILTERS

    assert set(words.FILTERS) & set(FILTERS) <= {"count"}


def test_money_that_is_little_is_still_some():
    assert (words.money(0), words.money(0.0123), words.money(1234.5)) == ("$0.00", "$0.0123", "$1,234.50")
