"""Ids sort by the time they were made, and only readable ones are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor import ids
from claude_conductor.errors import InvalidArgumentError


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 74) - 1))
def test_a_uuid7_has_the_layout_of_rfc_9562(milliseconds, random):
    raw = ids.uuid7(milliseconds, random)

    assert len(raw) == 16
    assert int.from_bytes(raw[:6], "big") == milliseconds
    assert raw[6] >> 4 == 7
    assert raw[8] >> 6 == 0b10


@given(st.integers(0, (1 << 48) - 2), st.integers(0, (1 << 74) - 1), st.integers(0, (1 << 74) - 1))
def test_a_later_id_sorts_later(milliseconds, first, second):
    assert ids.uuid7(milliseconds, first).hex() < ids.uuid7(milliseconds + 1, second).hex()


@given(st.binary(min_size=16, max_size=16))
def test_a_message_id_survives_being_read_by_people(raw):
    assert ids.message_bytes(ids.message_id(raw)) == raw


@pytest.mark.parametrize("text", ["", "msg_", "msg_zz", "task_" + "0" * 32, "msg_" + "0" * 31, "msg_" + "0" * 34, "0" * 32])
def test_what_is_no_message_id_is_refused(text):
    with pytest.raises(InvalidArgumentError):
        ids.message_bytes(text)


@pytest.mark.parametrize("name", ["a", "agent-1", "reviewer.eu_2", "0"])
def test_a_name_may_be_a_label(name):
    assert ids.check_name("agent", name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "../x", "a b", "x" * 64, "a\n"])
def test_a_name_that_could_be_a_path_or_confuse_is_refused(name):
    with pytest.raises(InvalidArgumentError, match="agent"):
        ids.check_name("agent", name)
