"""Sizes, shares and durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.units import format_duration, format_size, parse_cpus, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1g", 1 << 30), ("512m", 512 << 20), ("64 MiB", 64 << 20), ("1.5G", 3 << 29), (4096, 4096), ("0", 0), ("2gb", 2 << 30)],
)
def test_a_size_is_read_as_podman_reads_it(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "g", "1x", "-1", "1 2", "1e3", "½", "nan"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(InvalidArgumentError, match="512m"):
        parse_size(text)


@pytest.mark.parametrize("text", ["8388608t", "99999999t", "9" * 400 + "t", "9" * 500])
def test_what_is_no_size_anywhere_is_refused_with_the_largest(text):
    with pytest.raises(InvalidArgumentError, match="8388608t"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172800), (3, 3), ("0.5", 0.5)]
)
def test_a_duration_is_a_number_with_units(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5 apples", "1h30", "s", "-3", "inf", "nan", "1m-2s"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(InvalidArgumentError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf"])
def test_a_processor_share_is_above_zero(text):
    with pytest.raises(InvalidArgumentError):
        parse_cpus(text)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_any_number_of_bytes_is_a_size_and_can_be_shown(size):
    assert parse_size(str(size)) == size
    assert format_size(size)


def test_people_read_rounded_values():
    assert [format_size(s) for s in (0, 1023, 1536, 1 << 30, 150 << 20)] == ["0 B", "1023 B", "1.5 KiB", "1.0 GiB", "150 MiB"]
    assert [format_duration(s) for s in (0.0123, 3.42, 72, 3_720)] == ["12 ms", "3.4 s", "1m 12s", "1h 2m"]
